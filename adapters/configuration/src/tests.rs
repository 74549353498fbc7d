use super::*;
use clap::{Arg, ArgAction, ArgGroup};

fn command() -> Command {
    Command::new("program")
        .arg(Arg::new("ttl").long("ttl").env("X_TTL").default_value("1s"))
        .arg(Arg::new("ttl-max").long("ttl-max"))
        .arg(Arg::new("store").long("store").env("X_STORE").group("records"))
        .arg(Arg::new("address").long("address").group("records"))
        .arg(Arg::new("loud").long("loud").action(ArgAction::SetTrue))
        .arg(Arg::new("check").long("check").action(ArgAction::SetTrue))
        .arg(Arg::new("config").long("config").env("X_CONFIG"))
        .group(ArgGroup::new("records"))
}

struct Host {
    dir: tempfile::TempDir,
}

impl Host {
    fn new(text: &str) -> Host {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("c.yaml"), text).unwrap();
        Host { dir }
    }

    fn path(&self) -> PathBuf {
        self.dir.path().join("c.yaml")
    }

    /// What `line` amounts to, with these variables, and the file as `--config`.
    fn gather(&self, line: &[&str], variables: &[(&str, &str)]) -> Result<Arguments, FileError> {
        let mut given: Vec<OsString> = vec!["program".into()];
        given.extend(line.iter().map(OsString::from));
        given.extend(["--config".into(), self.path().into_os_string()]);
        let variable = |name: &OsStr| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| OsString::from(value))
        };
        Arguments::gather(&command(), given, variable)
    }

    fn value(&self, line: &[&str], name: &str) -> Option<String> {
        let arguments = self.gather(line, &[]).unwrap();
        let matches = command().get_matches_from(arguments.all);
        matches.get_one::<String>(name).cloned()
    }

    fn refused(&self) -> String {
        let error = self.gather(&[], &[]).unwrap_err().to_string();
        error.replace(&shown(&self.path()), "FILE")
    }
}

#[test]
fn a_flag_comes_before_the_environment_and_that_before_the_file() {
    let host = Host::new("ttl: 5s\n");
    assert_eq!(host.value(&[], "ttl").unwrap(), "5s");
    assert_eq!(host.value(&["--ttl", "7s"], "ttl").unwrap(), "7s");
    assert_eq!(host.value(&["--ttl=7s"], "ttl").unwrap(), "7s");
    assert_eq!(host.value(&["--ttl-max", "7s"], "ttl").unwrap(), "5s");
    // The environment is read by whoever parses: the file only keeps out of its way.
    let arguments = host.gather(&[], &[("X_TTL", "6s")]).unwrap();
    assert!(!is_given(&arguments.all, "ttl"));
}

#[test]
fn a_file_does_not_contradict_the_other_flag_of_a_choice() {
    let host = Host::new("store: a\n");
    assert_eq!(host.value(&["--address", "b"], "store"), None);
    assert_eq!(host.value(&[], "store").unwrap(), "a");
    let arguments = Host::new("address: b\n")
        .gather(&[], &[("X_STORE", "a")])
        .unwrap();
    assert!(!is_given(&arguments.all, "address"));
}

#[test]
fn values_are_read_as_yaml_reads_them() {
    let text = "---\n# A comment\n\nttl: 5s # five\nstore: 'a # b'  # c\naddress: \"x: y\"\nttl-max: a#b\nloud: true\n";
    let arguments = Host::new(text).gather(&[], &[]).unwrap();
    let words: Vec<String> = arguments
        .all
        .iter()
        .map(|word| word.to_string_lossy().into_owned())
        .collect();
    assert_eq!(
        words[3..],
        ["--ttl=5s", "--store=a # b", "--ttl-max=a#b", "--loud"]
    );
    assert!(!is_given(
        &Host::new("loud: false\n").gather(&[], &[]).unwrap().all,
        "loud"
    ));
}

#[test]
fn what_is_wrong_with_a_file_is_told_with_its_line() {
    for (text, expected) in [
        ("ttl 5s\n", "FILE:1: write NAME: VALUE"),
        ("\nttl:5s\n", "FILE:2: write NAME: VALUE"),
        (
            "time: 5s\n",
            "FILE:1: there is no setting \"time\"; want one of ttl, ttl-max, store, address, loud",
        ),
        ("check: true\n", "FILE:1: there is no setting \"check\""),
        ("config: x\n", "FILE:1: there is no setting \"config\""),
        ("ttl: 1s\nttl: 2s\n", "FILE:2: ttl is in line 1 already"),
        ("ttl:\n", "FILE:1: ttl: has no value"),
        ("ttl: [1s]\n", "put it in quotes"),
        ("ttl: 'x\n", "the quotes do not end"),
        ("ttl: 'x' y\n", "something follows the quotes"),
        ("  ttl: 1s\n", "begins it"),
        (
            "loud: perhaps\n",
            "FILE:1: loud: \"perhaps\" is neither true nor false",
        ),
    ] {
        let error = Host::new(text).refused();
        assert!(error.contains(expected), "{text:?}: {error}");
    }
    let host = Host::new("");
    std::fs::remove_file(host.path()).unwrap();
    assert!(
        host.refused().starts_with("--config FILE: No such file"),
        "{}",
        host.refused()
    );
}

#[test]
fn an_error_says_where_a_value_is_from() {
    let host = Host::new("store: a\nttl: x\n");
    let arguments = host.gather(&["--ttl-max", "1s"], &[("X_STORE", "b")]).unwrap();
    let told = arguments.explain("error: --ttl: x is no duration\n");
    assert_eq!(
        told,
        format!(
            "error: --ttl: x is no duration\n--ttl is from {}:2",
            shown(&host.path())
        )
    );
    assert_eq!(arguments.explain("error: --ttl-max: 1s"), "error: --ttl-max: 1s");
    let told = arguments.explain("--store b");
    assert_eq!(told, "--store b\n--store is from the environment: X_STORE");
}
