use proptest::prelude::*;

use super::*;

const NOW: Duration = Duration::from_secs(1_000);

fn all(loads: &[(Standing, usize)]) -> Vec<(usize, Standing, usize)> {
    let places = loads.iter().enumerate();
    places
        .map(|(place, (standing, load))| (place, *standing, *load))
        .collect()
}

fn chosen(loads: &[(Standing, usize)], turn: usize) -> Option<usize> {
    choose(all(loads), loads.len(), turn)
}

#[test]
fn the_least_loaded_is_next_and_equals_take_turns() {
    use Standing::InService;
    assert_eq!(
        chosen(&[(InService, 3), (InService, 1), (InService, 2)], 7),
        Some(1)
    );
    let idle = [(InService, 0); 3];
    let turns: Vec<_> = (4..10).map(|turn| chosen(&idle, turn)).collect();
    assert_eq!(turns, [1, 2, 0, 1, 2, 0].map(Some));
    assert_eq!(chosen(&[], 5), None);
}

#[test]
fn what_is_out_of_service_is_a_last_resort() {
    use Standing::{Ejected, InService, OnProbation, Unhealthy};
    assert_eq!(chosen(&[(Ejected, 0), (InService, 900)], 0), Some(1));
    assert_eq!(chosen(&[(Unhealthy, 0), (Ejected, 3)], 0), Some(1));
    assert_eq!(chosen(&[(Ejected, 4), (Ejected, 3)], 0), Some(1));
    assert_eq!(chosen(&[(OnProbation, 1), (InService, 9)], 0), Some(1));
    assert_eq!(chosen(&[(OnProbation, 0), (InService, 9)], 1), Some(0));
    assert_eq!(chosen(&[(OnProbation, 1), (Ejected, 0)], 1), Some(0));
}

#[test]
fn a_failed_connect_ejects_and_the_back_off_doubles() {
    let mut health = Health::default();
    let mut now = NOW;
    for seconds in [1, 2, 4, 8, 16, 30, 30] {
        let backoff = Duration::from_secs(seconds);
        assert_eq!(health.failed(Failure::Connect, now, 255), Some(backoff));
        assert_eq!(health.standing(), Standing::Ejected);
        let early = backoff.saturating_sub(Duration::from_nanos(1));
        assert!(!health.begin_trial(now + early));
        now += backoff;
        assert!(health.begin_trial(now));
        assert!(!health.begin_trial(now), "one at a time");
        assert!(health.connected(now));
        assert_eq!(health.standing(), Standing::OnProbation);
    }
    health.answered(now);
    assert!(health.is_spotless());
    let soon = health
        .clone()
        .failed(Failure::Connect, now + FORGIVEN / 2, 255);
    assert_eq!(soon, Some(LAST_BACKOFF));
    let late = health.failed(Failure::Connect, now + FORGIVEN, 255);
    assert_eq!(late, Some(FIRST_BACKOFF), "that was long ago");
}

#[test]
fn a_trial_that_fails_ejects_for_longer() {
    let mut health = Health::default();
    assert_eq!(health.trial_failed(NOW, 255), None);
    health.failed(Failure::Connect, NOW, 255);
    assert_eq!(health.trial_failed(NOW, 255), None);
    assert!(health.begin_trial(NOW + FIRST_BACKOFF));
    let longer = health.trial_failed(NOW + FIRST_BACKOFF, 255);
    assert_eq!(longer, Some(2 * FIRST_BACKOFF));
    assert_eq!(health.due(), Some(NOW + 3 * FIRST_BACKOFF));
}

#[test]
fn connections_that_break_eject_when_none_is_answered_in_between() {
    let mut health = Health::default();
    for _ in 0..10 {
        assert_eq!(health.failed(Failure::Broken, NOW, 0), None);
        assert_eq!(health.failed(Failure::Broken, NOW, 0), None);
        health.answered(NOW);
    }
    assert!(health.is_spotless());
    health.failed(Failure::Broken, NOW, 0);
    health.failed(Failure::Broken, NOW, 0);
    let backoff = health.failed(Failure::Broken, NOW, 0);
    assert_eq!(backoff, Some(FIRST_BACKOFF * 3 / 4));
    assert_eq!(health.failed(Failure::Broken, NOW, 0), None, "known");
    health.answered(NOW);
    assert_eq!(health.standing(), Standing::Ejected, "it was asked before");
    assert!(health.connected(NOW), "a request got through");
    assert!(
        health.failed(Failure::Broken, NOW, 0).is_some(),
        "once is enough now"
    );
}

#[test]
fn late_answers_eject_on_probation_alone() {
    let mut health = Health::default();
    for _ in 0..10 {
        assert_eq!(health.failed(Failure::Late(NOW), NOW, 255), None);
        assert!(health.is_spotless());
    }
    health.failed(Failure::Connect, NOW, 255);
    let late = Failure::Late(NOW);
    assert_eq!(health.failed(late, NOW, 255), None, "known");
    let back = NOW + FIRST_BACKOFF;
    assert!(health.begin_trial(back));
    assert_eq!(health.failed(late, back, 255), None, "known");
    assert!(health.connected(back));
    assert_eq!(health.failed(late, back, 255), None, "asked before");
    let longer = health.failed(Failure::Late(back), back + FIRST_BACKOFF, 255);
    assert_eq!(longer, Some(2 * FIRST_BACKOFF));
    assert_eq!(health.standing(), Standing::Ejected);
}

#[test]
fn checks_count_in_a_row() {
    let mut checked = Checked::default();
    let thresholds = Thresholds {
        healthy: 2,
        unhealthy: 3,
    };
    let mut take = |passed: bool| (checked.take(passed, thresholds), checked.is_unhealthy());
    assert_eq!(take(false), (false, false));
    assert_eq!(take(false), (false, false));
    assert_eq!(take(true), (false, false));
    assert_eq!(take(false), (false, false));
    assert_eq!(take(false), (false, false));
    assert_eq!(take(false), (true, true));
    assert_eq!(take(false), (false, true));
    assert_eq!(take(true), (false, true));
    assert_eq!(take(false), (false, true));
    assert_eq!(take(true), (false, true));
    assert_eq!(take(true), (true, false));
}

fn standing() -> impl Strategy<Value = Standing> {
    (0..Standing::ALL.len()).prop_map(|place| Standing::ALL[place])
}

#[derive(Clone, Copy, Debug)]
enum Event {
    Failed(Failure, u8),
    Answered,
    Connected,
    Tried(Option<u8>),
}

fn event() -> impl Strategy<Value = Event> {
    prop_oneof![
        any::<u8>().prop_map(|jitter| Event::Failed(Failure::Connect, jitter)),
        any::<u8>().prop_map(|jitter| Event::Failed(Failure::Broken, jitter)),
        any::<u8>().prop_map(|jitter| Event::Failed(Failure::Late(NOW), jitter)),
        Just(Event::Answered),
        Just(Event::Connected),
        any::<Option<u8>>().prop_map(Event::Tried),
    ]
}

proptest! {
    #[test]
    fn some_address_is_chosen_where_there_is_any(
        loads in prop::collection::vec((standing(), 0..4_usize), 1..9),
        turn: usize,
    ) {
        let place = chosen(&loads, turn).unwrap();
        let (standing, load) = loads[place];
        let better = loads.iter().any(|(other, _)| other.is_in_service());
        prop_assert!(standing.is_in_service() || !better);
        if standing == Standing::InService {
            let least = loads.iter().filter(|(other, _)| *other == standing);
            prop_assert!(least.map(|(_, load)| *load).min() >= Some(load));
        }
    }

    #[test]
    fn everyone_has_a_turn(count in 1..9_usize, turn in 0..usize::MAX - 20) {
        let idle = vec![(Standing::InService, 0); count];
        let mut had: Vec<_> = (turn..turn + count).map(|turn| chosen(&idle, turn)).collect();
        had.sort_unstable();
        prop_assert_eq!(had, (0..count).map(Some).collect::<Vec<_>>());
    }

    #[test]
    fn an_ejection_ends(events in prop::collection::vec((event(), 0..40_000_u64), 0..60)) {
        let mut health = Health::default();
        let mut now = NOW;
        for (event, passed) in events {
            now += Duration::from_millis(passed);
            let ejected = match event {
                Event::Failed(failure, jitter) => health.failed(failure, now, jitter),
                Event::Answered => { health.answered(now); None }
                Event::Connected => { health.connected(now); None }
                Event::Tried(failed) => {
                    if !health.begin_trial(now) { continue; }
                    if failed.is_none() { prop_assert!(health.connected(now)); }
                    failed.and_then(|jitter| health.trial_failed(now, jitter))
                }
            };
            if let Some(backoff) = ejected {
                prop_assert!(backoff >= FIRST_BACKOFF * 3 / 4 && backoff <= LAST_BACKOFF);
                prop_assert_eq!(health.due(), Some(now + backoff));
            }
            prop_assert_eq!(health.due().is_some(), health.standing() == Standing::Ejected);
        }
        if let Some(due) = health.due() {
            prop_assert!(due <= now + LAST_BACKOFF);
            prop_assert!(health.begin_trial(due) && health.connected(due));
        }
        health.answered(now);
        prop_assert!(health.is_spotless());
    }
}
