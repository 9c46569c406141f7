# The list of commands. CI runs `.ci/run`, which is `just ci` without just.

default:
    @just --list

# Bring every file into shape.
fmt:
    cargo fmt

# What must be clean before a commit.
lint:
    cargo fmt --check
    cargo clippy --all-targets --locked -- -D warnings

# Licences, advisories, bans and sources (needs cargo-deny and the network).
deny:
    cargo deny check

# Every test.
test:
    cargo test --locked

# What CI runs.
ci:
    .ci/run

# A hundred kills at random moments under load; `just kill-loop 1000 7` for more, with another seed.
kill-loop kills="100" seed="1":
    CONDUCTOR_TEST_KILLS={{ kills }} CONDUCTOR_TEST_SEED={{ seed }} \
        cargo test --release --locked --test it -- restart::a_hundred_kills --nocapture

# The flood of 20,000 files against the release build; `just flood 200000` for more.
flood files="20000":
    CONDUCTOR_TEST_FILES={{ files }} cargo test --release --locked --test it -- delivery:: --nocapture

# Criterion benches.
bench:
    cargo bench --locked

# The real pipeline on sample intents in ./demo.
demo:
    cargo run --release --locked -- demo
