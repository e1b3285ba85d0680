//! The Python process that runs `tests/scapy/exchange.py`.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use baton_sad::{Direction, Mode};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use crate::common::{Setup, sa};

/// scapy, as long as this lives.
pub struct Scapy {
    child: Child,
    questions: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Scapy {
    /// Starts it; says SKIPPED and why if it is not there.
    pub fn start(test: &str) -> Option<Self> {
        let [python, script] = ["target/venv/bin/python", "tests/scapy/exchange.py"]
            .map(|path| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(path));
        if !python.exists() {
            // Past the test harness's capture.
            let _ = writeln!(std::io::stderr(), "SKIPPED {test}: scapy is missing: run ./dev setup");
            return None;
        }
        let mut command = Command::new(python);
        command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().expect("Python starts");
        let questions = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().expect("a pipe"));
        Some(Self { child, questions, answers })
    }

    /// One question, one answer.
    pub fn ask<A: DeserializeOwned>(&mut self, question: &Value) -> A {
        writeln!(self.questions.as_mut().expect("a pipe"), "{question}").expect("scapy listens");
        let mut answer = String::new();
        self.answers.read_line(&mut answer).expect("scapy speaks");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{question} got {error}: {answer:?}"))
    }
}

impl Drop for Scapy {
    fn drop(&mut self) {
        // It ends when nobody asks any more.
        drop(self.questions.take());
        let _ = self.child.wait();
    }
}

/// An SA of gateway A as `tests/scapy/esp_sa.py` wants it.
pub fn association(setup: &Setup, direction: Direction) -> Value {
    let sa = sa(setup, 0, direction, 0);
    json!({
        "spi": sa.spi,
        "suite": sa.suite.to_string(),
        "key": hex::encode(sa.key.expose()),
        "esn": sa.extended_sequence,
        "source": sa.source,
        "destination": sa.destination,
        "mode": if sa.mode == Mode::Tunnel { "tunnel" } else { "transport" },
        "encapsulated": sa.encapsulation.is_some(),
    })
}
