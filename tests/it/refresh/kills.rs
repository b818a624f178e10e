//! `kill -9` in the middle of refreshes: who holds the old token or the new one goes on.

use std::thread;
use std::time::Duration;

use crate::harness::{Client, Response, Wallet, rounds};
use crate::sign_in::site::{AUTH, Site, text};

/// How often the program is killed; this variable asks for more.
const ROUNDS: &str = "GATELET_KILL_ROUNDS";

/// How many sign-ins are refreshed at once.
const CLIENTS: u8 = 4;

/// What a client has after its connection broke.
struct Kept {
    /// The token whose answer has not come, or that was never presented.
    token: String,
    /// The one before it.
    before: Option<String>,
    /// How many answers came.
    answered: usize,
}

/// Refreshes, again and again, until the program is gone.
fn refresh_until_it_breaks(mut client: Client, token: String) -> Kept {
    let mut kept = Kept {
        token,
        before: None,
        answered: 0,
    };
    while let Some(answer) = refreshed(&mut client, &kept.token) {
        assert_eq!(answer.status, 200, "{}", answer.text());
        let next = text(&answer, "refreshToken");
        kept.before = Some(std::mem::replace(&mut kept.token, next));
        kept.answered += 1;
    }
    kept
}

fn refreshed(client: &mut Client, token: &str) -> Option<Response> {
    let body = format!("{{\"refreshToken\":\"{token}\"}}");
    let request = format!(
        "POST {AUTH}/refresh HTTP/1.1\r\nhost: api.test\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    client.try_send(request).ok()?;
    client.try_response("POST").ok()
}

/// Kills the program in the middle, starts it again, and has every client go on.
///
/// Where the `grace` lasts, each presents the token before its last one as well, as a second tab.
fn everybody_goes_on(grace: &str, tabs: bool) {
    let mut site = Site::with(&format!("\n[refresh_token]\ngrace = \"{grace}\"\n"));
    let (mut answered, mut unanswered, mut lost) = (0, 0, 0.0);
    let rounds = rounds(ROUNDS, 8);
    for round in 0..rounds {
        let wallets = (0..CLIENTS).map(|number| Wallet::numbered(50 + number));
        let signed_in: Vec<String> = wallets
            .map(|wallet| text(&site.sign_in(&wallet, "body"), "refreshToken"))
            .collect();
        let clients: Vec<_> = signed_in
            .into_iter()
            .map(|token| {
                let client = site.world.connect();
                thread::spawn(move || refresh_until_it_breaks(client, token))
            })
            .collect();
        // A fixed walk over 40 ms, in steps that share no factor with it.
        let after = u64::try_from(round).unwrap() * 7_919 % 40_000;
        thread::sleep(Duration::from_micros(after));
        site.world.crash();
        for client in clients {
            let kept = client.join().unwrap();
            let first = site.refresh(&kept.token);
            assert_eq!(first.status, 200, "round {round}: {}", first.text());
            let current = text(&first, "refreshToken");
            assert_ne!(current, kept.token);
            lost -= f64::from(u8::from(tabs && kept.before.is_some()));
            if let Some(before) = kept.before.filter(|_| tabs) {
                let second_tab = site.refresh(&before);
                assert_eq!(second_tab.status, 200, "{}", second_tab.text());
                assert_eq!(text(&second_tab, "refreshToken"), current);
            }
            assert_eq!(site.portfolio(&text(&first, "accessToken")).status, 200);
            let next = site.refresh(&current);
            assert_eq!(next.status, 200, "round {round}: {}", next.text());
            assert_ne!(text(&next, "refreshToken"), current);
            answered += kept.answered;
            unanswered += 1;
        }
        // Answered again, though nobody had the answer: the swap was made, and then came the kill.
        let again = [("outcome", "repeated")];
        lost += site.world.metrics().sum("gatelet_refreshes_total", &again);
    }
    assert!(answered > unanswered, "{answered} answers came");
    assert!(
        lost > 0.0 || rounds < 50,
        "no kill hit between swap and answer"
    );
    let go_on = usize::from(CLIENTS) * rounds;
    assert_eq!(site.upstream.received().len(), go_on);
}

#[test]
fn within_grace_everybody_goes_on_after_a_kill() {
    everybody_goes_on("1m", true);
}

#[test]
fn past_grace_whoever_lost_an_answer_goes_on_after_a_kill() {
    everybody_goes_on("1ms", false);
}
