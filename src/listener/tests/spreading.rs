//! Which worker a connection goes to, in real time and over real sockets.

use tokio::net::TcpStream;
use tokio::time::{sleep, timeout};

use super::*;

/// A listener whose two workers are on this runtime.
struct Crew {
    address: SocketAddr,
    workers: Vec<Worker>,
    _exit: Exit,
}

impl Crew {
    fn start() -> Self {
        let (exit, stages) = Exit::new();
        let workers: Vec<Worker> = (0..2)
            .map(|_| {
                let (worker, serving) = Worker::new(desk(stages.clone()));
                tokio::spawn(serving);
                worker
            })
            .collect();
        let listener = Listener::bind(config().proxy).unwrap();
        let address = listener.address();
        let terms = |address| config().terms(address);
        tokio::spawn(accept(
            listener,
            workers.clone(),
            Shares::default(),
            terms,
            || {},
        ));
        Self {
            address,
            workers,
            _exit: exit,
        }
    }

    /// Connects so many times, one after the other.
    async fn connect(&self, times: usize) -> Vec<TcpStream> {
        let mut callers = Vec::new();
        for _ in 0..times {
            callers.push(TcpStream::connect(self.address).await.unwrap());
        }
        callers
    }

    /// How many connections each worker has, once there are so many.
    async fn each(&self, all: usize) -> Vec<usize> {
        let there = async {
            loop {
                let each: Vec<usize> = self.workers.iter().map(Worker::open).collect();
                if each.iter().sum::<usize>() == all {
                    return each;
                }
                sleep(Duration::from_millis(1)).await;
            }
        };
        let there = timeout(Duration::from_secs(10), there).await;
        there.expect("all connections are counted")
    }
}

#[tokio::test]
async fn few_connections_are_shared_evenly() {
    for all in [2, 4, 8] {
        let crew = Crew::start();
        let _callers = crew.connect(all).await;
        assert_eq!(crew.each(all).await, [all / 2; 2]);
    }
}

#[tokio::test]
async fn a_worker_whose_connections_have_ended_gets_the_next_ones() {
    let crew = Crew::start();
    let callers = crew.connect(8).await;
    assert_eq!(crew.each(8).await, [4, 4]);
    // They went to the one and the other in turn.
    let _stay: Vec<TcpStream> = callers.into_iter().step_by(2).collect();
    assert_eq!(crew.each(4).await, [4, 0]);
    let _new = crew.connect(4).await;
    assert_eq!(crew.each(8).await, [4, 4]);
}
