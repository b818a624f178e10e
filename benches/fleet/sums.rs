//! What a server counts of itself, and the difference between two readings of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// What a swap's script calls inside the server: no question of their own.
const INSIDE: [&str; 7] = ["getrange", "set", "zadd", "del", "zrem", "exists", "xadd"];

/// What the question of a reading is long, as it is sent.
const QUESTION: u64 = "*2\r\n$4\r\nINFO\r\n$10\r\neverything\r\n".len() as u64;

/// What a server had counted at some time.
pub(crate) struct Reading {
    at: Instant,
    calls: BTreeMap<String, u64>,
    received: u64,
    sent: u64,
    processor: f64,
    pub(crate) memory: u64,
    pub(crate) memory_of_clients: u64,
    pub(crate) clients: u64,
    pub(crate) connections: u64,
    /// How many readings came before, and what their answers were long.
    readings: (u64, u64),
}

impl Reading {
    pub(crate) fn of(info: &str, readings: (u64, u64)) -> Self {
        let field = |name: &str| {
            let line = info.lines().find_map(|line| line.strip_prefix(name));
            line.and_then(|line| line.strip_prefix(':'))
                .unwrap_or_else(|| unreachable!("the server does not tell its {name}"))
        };
        let number = |name: &str| field(name).parse().unwrap();
        let seconds = |name: &str| field(name).parse::<f64>().unwrap();
        let calls = info.lines().filter_map(|line| {
            let (command, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
            let calls = rest.split(',').next()?.parse().ok()?;
            Some((command.to_owned(), calls))
        });
        Self {
            at: Instant::now(),
            calls: calls.collect(),
            received: number("total_net_input_bytes"),
            sent: number("total_net_output_bytes"),
            processor: seconds("used_cpu_sys") + seconds("used_cpu_user"),
            memory: number("used_memory"),
            memory_of_clients: number("mem_clients_normal"),
            clients: number("connected_clients"),
            connections: number("total_connections_received"),
            readings,
        }
    }

    /// What was spent from here to a later reading.
    pub(crate) fn until(&self, later: &Self) -> Spent {
        let mut calls = later.calls.clone();
        for (command, calls) in &mut calls {
            *calls -= self.calls.get(command).unwrap_or(&0);
        }
        let readings = later.readings.0 - self.readings.0;
        if let Some(calls) = calls.get_mut("info") {
            *calls -= readings;
        }
        calls.retain(|_, calls| *calls > 0);
        Spent {
            took: later.at - self.at,
            calls,
            received: (later.received - self.received).saturating_sub(readings * QUESTION),
            sent: (later.sent - self.sent).saturating_sub(later.readings.1 - self.readings.1),
            processor: later.processor - self.processor,
        }
    }
}

/// What a server did in some time.
pub(crate) struct Spent {
    took: Duration,
    calls: BTreeMap<String, u64>,
    received: u64,
    sent: u64,
    processor: f64,
}

impl Spent {
    /// How many commands of this kind there were.
    pub(crate) fn calls(&self, command: &str) -> u64 {
        self.calls.get(command).copied().unwrap_or_default()
    }

    /// How many commands were asked from outside.
    pub(crate) fn commands(&self) -> u64 {
        let asked = self.asked();
        asked.map(|(_, calls)| calls).sum()
    }

    /// The same by the second.
    #[expect(clippy::cast_precision_loss, reason = "it is less than a billion")]
    pub(crate) fn commands_a_second(&self) -> f64 {
        self.commands() as f64 / self.took.as_secs_f64()
    }

    /// For how many seconds the server was at work.
    pub(crate) fn processor(&self) -> f64 {
        self.processor
    }

    fn asked(&self) -> impl Iterator<Item = (&str, u64)> {
        let calls = self.calls.iter();
        calls
            .filter(|(command, _)| !INSIDE.contains(&command.as_str()))
            .map(|(command, calls)| (command.as_str(), *calls))
    }

    /// Prints it by the second.
    pub(crate) fn print_a_second(&self) {
        self.print("a second", self.took.as_secs_f64());
        let share = self.processor / self.took.as_secs_f64() * 100.0;
        println!("  processor    {share:.1} % of a core");
    }

    /// Prints it by each of so many.
    #[expect(clippy::cast_precision_loss, reason = "it is less than a billion")]
    pub(crate) fn print_each(&self, count: usize) {
        self.print("each", count as f64);
        let each = self.processor / count as f64 * 1e6;
        println!("  processor    {each:.0} µs each");
    }

    #[expect(clippy::cast_precision_loss, reason = "they are no exact sums")]
    fn print(&self, by: &str, parts: f64) {
        let kinds = self.asked();
        let kinds: Vec<String> = kinds
            .map(|(command, calls)| format!("{command} {:.2}", calls as f64 / parts))
            .collect();
        let commands = self.commands() as f64 / parts;
        println!("  commands     {commands:.2} {by}: {}", kinds.join(", "));
        let (received, sent) = (self.received as f64 / parts, self.sent as f64 / parts);
        println!("  bytes        {received:.0} to the server, {sent:.0} from it {by}");
    }
}

/// Prints how long things took: the median, the ninety-ninth of a hundred and the longest.
pub(crate) fn print_times(what: &str, mut times: Vec<Duration>) {
    times.sort_unstable();
    let at = |share: usize| times[(times.len() - 1) * share / 100];
    println!(
        "  {what:12} median {:.1?}, p99 {:.1?}, longest {:.1?}, of {}",
        at(50),
        at(99),
        at(100),
        times.len()
    );
}

/// A number of bytes in MiB.
#[expect(clippy::cast_precision_loss, reason = "it is printed in tenths")]
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1 << 20)
}
