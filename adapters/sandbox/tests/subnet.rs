//! What becomes of packets to a pod that is not there. Needs root.

use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpStream};
use std::time::Duration;

use holdfast_sandbox::names::Label;
use holdfast_sandbox::network::{NetworkError, Pod, Subnet};

/// Addresses set aside for tests of networks (RFC 2544); the first subnets are other tests'.
const SUBNETS: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);

fn knock(subnet: Subnet) -> ErrorKind {
    let door = (subnet.pod(), 80).into();
    let knocked = TcpStream::connect_timeout(&door, Duration::from_secs(30));
    knocked.expect_err("nobody listens there").kind()
}

/// A machine whose default route leads to a proxy that answers for everybody once had a stranger's
/// `404 Not Found` passed on as an actor's answer.
#[test]
fn what_is_sent_to_a_pod_that_has_died_leaves_the_machine_for_nobody() {
    let subnet = Subnet::nth(SUBNETS, 900).unwrap();
    let uid = Label::parse("pod UID", "subnet-test-900").unwrap();
    subnet.reserve().unwrap();
    let again = subnet.reserve().unwrap_err();
    assert!(
        matches!(&again, NetworkError::SubnetTaken { routed, .. } if *routed == format!("unreachable {subnet}")),
        "{again}"
    );
    assert_eq!(knock(subnet), ErrorKind::HostUnreachable);
    let pod = Pod::create(&uid, subnet).unwrap();
    assert_eq!(
        knock(subnet),
        ErrorKind::ConnectionRefused,
        "the pod itself is reached"
    );
    drop(pod);
    Pod::delete(&uid).unwrap();
    assert_eq!(knock(subnet), ErrorKind::HostUnreachable);
    subnet.release().unwrap();
    subnet.release().unwrap();
}
