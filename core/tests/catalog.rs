//! What operators declare: which pools an actor may run in, and which files a pool's sandboxes need.

mod hand;

use hand::{catalog, template};
use holdfast_core::catalog::*;
use holdfast_core::id::Name;

fn labels(pairs: &[(&str, &str)]) -> Labels {
    let pairs = pairs
        .iter()
        .map(|(key, value)| (Name::from(*key), Name::from(*value)));
    pairs.collect()
}

fn pool(name: &str, class: &str, config: Option<&str>) -> Pool {
    Pool {
        namespace: "ns".into(),
        name: name.into(),
        labels: labels(&[("pool", name)]),
        sandbox_class: class.into(),
        sandbox_config: config.map(Name::from),
    }
}

fn config(name: &str, class: &str, role: ConfigRole) -> SandboxConfig {
    let file = AssetFile {
        url: format!("mem://{name}").into(),
        sha256: "00".into(),
    };
    SandboxConfig {
        name: name.into(),
        sandbox_class: class.into(),
        role,
        assets: [("amd64".into(), [("runsc".into(), file)].into())].into(),
    }
}

/// Pools and configurations of two classes: one has a default, the other has two.
fn declared() -> Catalog {
    let mut catalog = Catalog::new();
    for declared in [
        pool("plain", "gvisor", None),
        pool("named", "gvisor", Some("other")),
        pool("strange", "gvisor", Some("micro-1")),
        pool("broken", "gvisor", Some("missing")),
        pool("torn", "micro", None),
        pool("bare", "unknown", None),
    ] {
        catalog.add_pool(declared);
    }
    for declared in [
        config("default", "gvisor", ConfigRole::Default),
        config("other", "gvisor", ConfigRole::Named),
        config("micro-1", "micro", ConfigRole::Default),
        config("micro-2", "micro", ConfigRole::Default),
    ] {
        catalog.add_sandbox_config(declared);
    }
    catalog
}

#[test]
fn a_pool_has_the_files_that_it_names_or_else_those_of_its_class() {
    let catalog = declared();
    for (pool, name) in [("plain", "default"), ("named", "other")] {
        let assets = catalog.assets(&("ns".into(), pool.into())).unwrap();
        assert_eq!(assets.sandbox_class, Name::from("gvisor"));
        assert_eq!(assets.assets, config(name, "gvisor", ConfigRole::Named).assets);
    }
}

#[test]
fn what_is_missing_or_contradictory_is_said_in_the_words_of_the_original() {
    let catalog = declared();
    for (pool, words) in [
        ("none", "WorkerPool ns/none not found"),
        ("broken", "SandboxConfig \"missing\" not found"),
        (
            "strange",
            "SandboxConfig \"micro-1\" has class \"micro\" but WorkerPool ns/strange is class \"gvisor\"",
        ),
        (
            "bare",
            "no default SandboxConfig for class \"unknown\"; set one with spec.default=true or name one via \
             WorkerPool.spec.sandboxConfigName",
        ),
        (
            "torn",
            "multiple default SandboxConfigs for class \"micro\" (\"micro-1\" and \"micro-2\")",
        ),
    ] {
        let error = catalog.assets(&("ns".into(), pool.into())).unwrap_err();
        assert_eq!(error.to_string(), words);
    }
}

#[test]
fn an_actor_may_run_where_class_template_and_selector_agree() {
    let mut catalog = declared();
    let mut template = (*template()).clone();
    let eligible = |catalog: &Catalog, template: &Template, selector: &Selector| {
        let pools = catalog.eligible(template, selector).into_iter();
        pools
            .map(|(_, name)| name.as_str().to_owned())
            .collect::<Vec<_>>()
    };
    let any = Selector::default();
    let all = ["broken", "named", "plain", "strange"];
    assert_eq!(eligible(&catalog, &template, &any), all);
    let plain = Selector {
        match_labels: labels(&[("pool", "plain")]),
    };
    assert_eq!(eligible(&catalog, &template, &plain), ["plain"]);
    template.worker_selector.equal = plain.clone();
    assert_eq!(eligible(&catalog, &template, &any), ["plain"]);
    let named = Selector {
        match_labels: labels(&[("pool", "named")]),
    };
    assert_eq!(eligible(&catalog, &template, &named), [""; 0]);
    template.sandbox_class = "micro".into();
    assert_eq!(eligible(&catalog, &template, &plain), [""; 0]);

    // A later declaration of the same name takes the place of the earlier one.
    catalog.add_pool(pool("plain", "micro", None));
    assert_eq!(eligible(&catalog, &template, &plain), ["plain"]);
    assert_eq!(catalog.pools().count(), 6);
}

#[test]
fn a_requirement_on_a_label_means_what_kubernetes_means_by_it() {
    let (red, blue) = (
        labels(&[("color", "red")]),
        labels(&[("color", "blue"), ("size", "1")]),
    );
    let colors = || vec![Name::from("red"), Name::from("green")];
    let cases = [
        (Operator::In(colors()), [true, false, false]),
        (Operator::NotIn(colors()), [false, true, true]),
        (Operator::Exists, [true, true, false]),
        (Operator::DoesNotExist, [false, false, true]),
    ];
    for (operator, expected) in cases {
        let requirement = Requirement {
            key: "color".into(),
            operator,
        };
        let selector = LabelSelector {
            requirements: vec![requirement],
            ..LabelSelector::default()
        };
        let found = [&red, &blue, &Labels::new()].map(|labels| selector.matches(labels));
        assert_eq!(found, expected, "{:?}", selector.requirements);
    }
    let both = LabelSelector {
        equal: Selector {
            match_labels: labels(&[("size", "1")]),
        },
        requirements: vec![Requirement {
            key: "color".into(),
            operator: Operator::Exists,
        }],
    };
    assert!(both.matches(&blue) && !both.matches(&red));
    assert!(!both.matches(&labels(&[("size", "1")])));
    assert!(LabelSelector::default().matches(&Labels::new()));
}

#[test]
fn a_template_is_found_by_its_namespace_and_name() {
    let catalog = catalog(Some(template()));
    assert_eq!(
        catalog.template(&"ns".into(), &"counter".into()),
        Some(&template())
    );
    assert_eq!(catalog.template(&"ns".into(), &"other".into()), None);
    assert_eq!(catalog.template(&"other".into(), &"counter".into()), None);
    assert_eq!(catalog.templates().count(), 1);
}
