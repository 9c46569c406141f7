//! The honest client: asks `/livez` again and again and takes the time.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

const PAUSE: Duration = Duration::from_millis(50);
/// A daemon that does not answer so often in a row has ended.
const GIVE_UP: u32 = 3;
/// How long a question may take before it counts as not answered.
const LIMIT: Duration = Duration::from_secs(5);
/// How long the daemon may take to open its pages.
const START: Duration = Duration::from_secs(30);

/// What the probe heard.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Answers {
    pub(crate) given: u64,
    /// Questions without an answer that were followed by one with.
    pub(crate) missing: u64,
    pub(crate) worst: Duration,
    /// When the last answer came.
    pub(crate) last: Option<Instant>,
}

pub(crate) struct Probe(SocketAddr);

impl Probe {
    pub(crate) fn at(address: SocketAddr) -> Probe {
        Probe(address)
    }

    /// Asks until the daemon has ended.
    pub(crate) fn until_nobody_answers(&self) -> Answers {
        let (mut answers, mut unanswered) = (Answers::default(), 0);
        while unanswered < GIVE_UP {
            let asked = Instant::now();
            match self.ask() {
                Ok(()) => {
                    answers.given += 1;
                    answers.missing += u64::from(unanswered);
                    answers.worst = answers.worst.max(asked.elapsed());
                    answers.last = Some(Instant::now());
                    unanswered = 0;
                }
                Err(_) => unanswered += 1,
            }
            thread::sleep(PAUSE);
        }
        answers
    }

    fn ask(&self) -> io::Result<()> {
        let mut stream = TcpStream::connect_timeout(&self.0, LIMIT)?;
        stream.set_read_timeout(Some(LIMIT))?;
        stream.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        match answer.starts_with("HTTP/1.1 200 ") && answer.ends_with("ok") {
            true => Ok(()),
            false => Err(io::Error::other(answer)),
        }
    }
}

/// The address that a daemon writes down when its pages are open.
pub(crate) fn wait_for_address(file: &Path) -> io::Result<SocketAddr> {
    let deadline = Instant::now() + START;
    loop {
        match fs::read_to_string(file) {
            Ok(text) => return text.trim().parse().map_err(io::Error::other),
            Err(err) if Instant::now() > deadline => return Err(err),
            Err(_) => thread::sleep(Duration::from_millis(1)),
        }
    }
}
