//! Names and paths that become directories, mounts and probes of a sandbox.

use std::path::{Component, Path};

use holdfast_sandbox::bundle::check_mount_path;
use holdfast_sandbox::names::{ActorRef, Label};
use holdfast_sandbox::readyz::HttpGet;

use crate::feed::lines;

/// Three texts, tried as everything that they may be. A name that passes is one plain path component.
pub fn run(data: &[u8]) {
    let Some([first, second, third]) = lines(data) else {
        return;
    };
    if let Ok(label) = Label::parse("label", first) {
        assert_eq!(label.as_str(), first);
        assert_component(label.as_str());
    }
    if let Ok(name) = Label::container(first) {
        assert_component(name.as_str());
    }
    if let Ok(actor) = ActorRef::parse(first, second, third) {
        assert_component(&actor.to_string());
        assert_eq!(
            [
                actor.template_namespace(),
                actor.template_name(),
                actor.actor_id()
            ],
            [first, second, third]
        );
        // What passes as an actor's id passes as an atespace, and the other way round.
        assert!(actor.clone().within(Some(third)).is_ok());
        assert!(
            !third.contains(':'),
            "an atespace that could be taken for an actor of none"
        );
    }
    let known = ActorRef::parse("ns", "template", "a1").expect("a name");
    if let Ok(actor) = known.clone().within(Some(first)) {
        let text = actor.to_string();
        match actor.atespace() {
            Some(atespace) => {
                assert_component(atespace);
                assert_eq!(text, format!("{first}/{known}"));
            }
            None => assert_eq!((text, first), (known.to_string(), "")),
        }
    }
    if check_mount_path("main", third).is_ok() {
        let mut parts = Path::new(third).components();
        assert_eq!(parts.next(), Some(Component::RootDir));
        assert!(parts.all(|part| matches!(part, Component::Normal(_))), "{third}");
    }
    let port = second.parse().unwrap_or(80);
    // A probe ends up in a request line: what could break out of it is refused.
    if HttpGet::parse("main", third, port).is_ok() {
        assert!(third.bytes().all(|byte| byte > b' ' && byte != 0x7f), "{third:?}");
    }
}

fn assert_component(name: &str) {
    let mut parts = Path::new(name).components();
    assert!(
        matches!(parts.next(), Some(Component::Normal(part)) if part == name),
        "{name:?}"
    );
    assert!(name.len() <= 255 && !name.contains('\0'));
}
