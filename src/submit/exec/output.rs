//! What the command prints: read to its end whatever it is, the beginning kept, made safe to show.

use std::os::fd::OwnedFd;

use tokio::io::AsyncReadExt as _;
use tokio::net::unix::pipe::Receiver;

use crate::observe::escape::is_unsafe;

/// Bytes kept of each stream (`reliability.md` 10).
pub(super) const KEPT: usize = 64 << 10;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;
/// Bytes of shown standard error; with the rest of the message less than 4 KiB.
const SHOWN: usize = 3 << 10;

/// One stream.
#[derive(Debug)]
pub(super) struct Output {
    /// `None` after its end.
    pipe: Option<Receiver>,
    chunk: Box<[u8]>,
    kept: Vec<u8>,
    total: u64,
}

impl Output {
    /// The reading end of a pipe, or nothing.
    pub(super) fn of(pipe: Option<OwnedFd>) -> std::io::Result<Output> {
        let pipe = pipe.map(Receiver::from_owned_fd).transpose()?;
        Ok(Output { pipe, chunk: vec![0; CHUNK].into(), kept: Vec::new(), total: 0 })
    }

    /// Reads until the end. May be dropped and called again without losing anything.
    pub(super) async fn drain(&mut self) {
        while let Some(pipe) = &mut self.pipe {
            match pipe.read(&mut self.chunk).await {
                Ok(count @ 1..) => {
                    self.total += count as u64;
                    let room = KEPT - self.kept.len();
                    self.kept.extend_from_slice(&self.chunk[..count.min(room)]);
                }
                // A pipe that cannot be read has nothing more to say.
                Ok(0) | Err(_) => self.pipe = None,
            }
        }
    }

    /// More was printed than is kept.
    pub(super) fn is_cut(&self) -> bool {
        self.total > self.kept.len() as u64
    }

    /// What is kept, safe to show, and how much is missing.
    pub(super) fn told(&self) -> String {
        let missing = self.total - self.kept.len() as u64;
        let shown = visible(self.kept.trim_ascii(), KEPT);
        if missing == 0 { shown } else { format!("{shown}... and {missing} bytes") }
    }
}

/// `exit status 3 (stderr: boom)`, as the original said it.
pub(super) fn with_stderr(mut what: String, stderr: &Output) -> String {
    let said = visible(stderr.kept.trim_ascii(), SHOWN);
    if !said.is_empty() {
        what.push_str(&format!(" (stderr: {said})"));
    }
    what
}

/// Text in which nothing moves the cursor, hides or turns the reading direction, on one line, cut at
/// `most` bytes.
fn visible(bytes: &[u8], most: usize) -> String {
    let mut out = String::with_capacity(bytes.len().min(most));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            if is_unsafe(c) {
                out.extend(c.escape_default())
            } else {
                out.push(c)
            }
            if out.len() > most {
                return cut(out, most);
            }
        }
        chunk.invalid().iter().for_each(|byte| out.push_str(&format!("\\x{byte:02x}")));
        if out.len() > most {
            return cut(out, most);
        }
    }
    out
}

fn cut(mut text: String, most: usize) -> String {
    text.truncate(text.floor_char_boundary(most));
    text.push_str("...");
    text
}

/// The words of the original for the usual ones, the number for the rest.
pub(super) fn signal_name(signal: i32) -> String {
    let name = match signal {
        libc::SIGHUP => "hangup",
        libc::SIGINT => "interrupt",
        libc::SIGQUIT => "quit",
        libc::SIGILL => "illegal instruction",
        libc::SIGABRT => "aborted",
        libc::SIGBUS => "bus error",
        libc::SIGFPE => "floating point exception",
        libc::SIGKILL => "killed",
        libc::SIGSEGV => "segmentation fault",
        libc::SIGPIPE => "broken pipe",
        libc::SIGALRM => "alarm clock",
        libc::SIGTERM => "terminated",
        libc::SIGXCPU => "CPU time limit exceeded",
        _ => return format!("signal {signal}"),
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(kept: &[u8], total: u64) -> Output {
        Output { total, kept: kept.to_vec(), ..Output::of(None).unwrap() }
    }

    #[test]
    fn a_message_has_the_shape_of_the_original() {
        let message = |kept: &[u8]| with_stderr("exit status 3".into(), &printed(kept, kept.len() as u64));
        assert_eq!(message(b"boom\n"), "exit status 3 (stderr: boom)");
        assert_eq!(message(b" \n"), "exit status 3");
        assert_eq!(
            message(b"a\nb\x1b[2J\xff\xc2\x9b\xe2\x80\xae"),
            r"exit status 3 (stderr: a\nb\u{1b}[2J\xff\u{9b}\u{202e})"
        );
    }

    #[test]
    fn a_long_message_is_cut_at_a_character_and_stays_below_4_kib() {
        for bytes in ["ü".repeat(KEPT / 2).into_bytes(), vec![0xff; KEPT], vec![0x1b; KEPT]] {
            let message = with_stderr("exit status 3".into(), &printed(&bytes, 1 << 30));
            assert!(message.ends_with("...)") && message.len() < 4 << 10, "{}", message.len());
        }
    }

    #[test]
    fn what_is_not_kept_is_counted() {
        let output = printed(b"abc", 1 << 30);
        assert!(output.is_cut());
        assert_eq!(output.told(), "abc... and 1073741821 bytes");
    }
}
