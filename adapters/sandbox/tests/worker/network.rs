//! The network of a worker.

use holdfast_sandbox::names::Label;
use holdfast_sandbox::network::{NetworkError, WorkerNetwork};

use crate::worker::Worker;

#[test]
fn the_packet_filter_is_the_originals_and_is_replaced_as_a_whole() {
    let mut worker = Worker::new(20);
    let pod = worker.pod.address();
    let expected = format!(
        "table ip ateom_actor {{
\tchain prerouting {{
\t\ttype nat hook prerouting priority dstnat; policy accept;
\t\tip daddr {pod} tcp dport 80 dnat to 169.254.17.2:80
\t}}

\tchain postrouting {{
\t\ttype nat hook postrouting priority srcnat; policy accept;
\t\tip saddr 169.254.17.2 masquerade
\t}}

\tchain forward {{
\t\ttype filter hook forward priority filter; policy accept;
\t\taccept
\t}}
}}
"
    );
    assert_eq!(worker.packet_filter().unwrap(), expected);
    worker.lose_network();
    worker.reopen_network();
    assert_eq!(worker.packet_filter().unwrap(), expected, "and not twice");
}

#[test]
fn a_second_ateom_in_a_network_is_refused_and_the_first_goes_on() {
    let worker = Worker::new(21);
    let driver = worker.driver();
    let activation = worker.counter("first");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    let other = Label::parse("pod UID", "sandbox-test-other").unwrap();
    for uid in [&worker.uid, &other] {
        let refused = worker.inside(|| WorkerNetwork::open(uid)).unwrap_err();
        assert!(matches!(refused, NetworkError::InUse), "{refused}");
        assert!(
            refused.to_string().contains("start one ateom in each"),
            "{refused}"
        );
    }
    assert!(!holdfast_sandbox::network::interior_netns(&other).exists());
    assert_eq!(worker.count().count, 1);
    sandbox.stop().unwrap();
}

#[test]
fn the_next_incarnation_of_a_worker_adopts_its_network() {
    let mut worker = Worker::new(22);
    worker.lose_network();
    worker.reopen_network();
    let driver = worker.driver();
    let activation = worker.counter("adopted");
    let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
    assert_eq!(worker.count().count, 1);
    sandbox.stop().unwrap();
}

#[test]
fn the_next_actor_finds_nothing_of_the_network_of_the_one_before() {
    let worker = Worker::new(23);
    let driver = worker.driver();
    let seen = |actor: &str| {
        let activation = worker.counter(actor);
        let mut sandbox = worker.inside(|| driver.run(&activation)).unwrap();
        assert_eq!(worker.count().actor, actor);
        sandbox.stop().unwrap();
        (worker.interior(), worker.packet_filter())
    };
    let first = seen("first");
    // What an actor that has its way in the namespace might leave.
    worker.disturb();
    assert_ne!(worker.interior(), first.0);
    assert_eq!(seen("second"), first);
}
