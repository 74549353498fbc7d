//! What may be typed, and what it means.

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::BoolishValueParser;
use clap::error::ErrorKind;
use clap::{ArgGroup, Args, CommandFactory, Parser, Subcommand, ValueEnum};
use holdfast_core::catalog::Selector;
use holdfast_core::id::{ActorKey, Name};
use holdfast_core::name::{check_atespace, check_selector, is_dns_label, is_dns_subdomain};
use holdfast_runtime::duration;
use holdfast_runtime::net::{Address, Security};
use holdfast_security::ClientOptions;

/// Actors, atespaces and workers of an Agent Substrate control plane.
#[derive(Debug, Parser)]
#[command(
    name = "ate",
    version,
    propagate_version = true,
    max_term_width = 100,
    arg_required_else_help = true
)]
pub struct Cli {
    #[command(flatten)]
    pub options: Options,
    #[command(subcommand)]
    pub command: Command,
}

/// The declaration as it is parsed: what asks no control plane does not show how to ask one.
pub fn command() -> clap::Command {
    let command = Cli::command();
    let hidden: Vec<clap::Arg> = command
        .get_arguments()
        .filter(|argument| argument.is_global_set())
        .map(|argument| argument.clone().hide(true))
        .collect();
    ["dev", "sim", "worker", "completion"]
        .into_iter()
        .fold(command, |command, name| {
            command.mut_subcommand(name, |subcommand| subcommand.args(hidden.clone()))
        })
}

/// The subcommand that was given, of which wrong arguments show the usage.
pub fn subcommand(matches: &clap::ArgMatches) -> clap::Command {
    let mut command = command();
    command.build();
    let mut given = matches;
    while let Some((name, matches)) = given.subcommand() {
        match command.find_subcommand(name) {
            Some(found) => command = found.clone(),
            None => break,
        }
        given = matches;
    }
    command
}

/// What every command understands.
#[derive(Debug, Args)]
#[command(next_help_heading = "Global options")]
pub struct Options {
    /// Where ateapi listens: host:port or unix:/path
    #[arg(long, global = true, env = "ATE_ENDPOINT", default_value = "127.0.0.1:8443", value_parser = Address::to_dial)]
    pub endpoint: Address,
    #[command(flatten)]
    pub trust: Trust,
    /// How to show what there is
    #[arg(short, long, global = true, value_enum, default_value_t)]
    pub output: Format,
    /// How long to wait for the verdict, further attempts included, such as 30s or 5m
    #[arg(long, global = true, value_name = "DURATION", default_value = "60s", value_parser = duration::positive)]
    pub timeout: Duration,
}

/// How the control plane is reached, if not in plaintext.
#[derive(Clone, Debug, Args)]
pub struct Trust {
    /// Speak TLS; each of the next four says so, too
    #[arg(long, global = true, env = "ATE_TLS", value_parser = BoolishValueParser::new())]
    tls: bool,
    /// Who may have signed the certificate of ateapi: a PEM file [default: whom the system trusts]
    #[arg(long, global = true, value_name = "FILE", env = "ATE_CA_CERTS")]
    ca_certs: Option<PathBuf>,
    /// What ateapi is shown: a PEM file of one PRIVATE KEY (PKCS #8) and CERTIFICATEs, leaf first
    #[arg(long, global = true, value_name = "FILE", env = "ATE_CRED_BUNDLE")]
    cred_bundle: Option<PathBuf>,
    /// The name that the certificate of ateapi is for [default: the host of --endpoint]
    #[arg(long, global = true, value_name = "NAME", env = "ATE_SERVER_NAME")]
    server_name: Option<String>,
    /// Believe in any certificate, as kubectl-ate does with an endpoint: whoever is in between can read everything
    #[arg(long, global = true, env = "ATE_INSECURE_SKIP_TLS_VERIFY", value_parser = BoolishValueParser::new())]
    insecure_skip_tls_verify: bool,
    /// A bearer token for each call
    #[arg(long, global = true, value_name = "FILE", env = "ATE_TOKEN_FILE")]
    token_file: Option<PathBuf>,
}

impl Trust {
    /// What that amounts to for a control plane at `endpoint`.
    pub fn open(self, endpoint: &Address) -> Result<Security, UsageError> {
        let conflict = |message: String| UsageError::new(ErrorKind::ArgumentConflict, message);
        if self.insecure_skip_tls_verify && self.ca_certs.is_some() {
            let message =
                "--insecure-skip-tls-verify believes in any certificate; leave --ca-certs out, or it";
            return Err(conflict(message.to_owned()));
        }
        let options = ClientOptions {
            tls: self.tls,
            ca_certs: self.ca_certs,
            cred_bundle: self.cred_bundle,
            server_name: self.server_name,
            skip_verify: self.insecure_skip_tls_verify,
            token_file: self.token_file,
        };
        if options.token_file.is_some() && !options.speaks_tls() && !endpoint.is_local() {
            let message = "--token-file: without TLS the token could be read by others on the way; add --ca-certs or --tls";
            return Err(conflict(message.to_owned()));
        }
        options.open().map_err(|error| {
            let message = format!("--ca-certs, --cred-bundle, --server-name, --token-file: {error}");
            UsageError::new(ErrorKind::ValueValidation, message)
        })
    }
}

/// How lists are shown: in columns for people, or as the API's list response for programs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Format {
    #[default]
    Table,
    Json,
    Yaml,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run a whole cluster on this machine: control plane, node, workers and an HTTP router
    Dev(Box<crate::dev::Dev>),
    /// Play the control plane in a simulated world of faults: find, replay and shrink what goes wrong
    #[command(subcommand)]
    Sim(Box<crate::sim::Sim>),
    /// Measure how fast a control plane is, this one or any other that speaks the same API
    #[command(subcommand)]
    Bench(Box<crate::bench::Bench>),
    /// One worker of `ate dev`, which starts it
    #[command(hide = true)]
    Worker(holdfast_worker::flags::Worker),
    /// Create an actor or an atespace
    #[command(subcommand)]
    Create(Create),
    /// Show actors, atespaces or workers
    #[command(subcommand, visible_alias = "list")]
    Get(Get),
    /// Make an actor run, on any free worker
    #[command(override_usage = "ate resume [actor] <NAME> --atespace <ATESPACE> [OPTIONS]")]
    Resume(Resume),
    /// Snapshot an actor to the object store and free its worker
    #[command(override_usage = "ate suspend [actor] <NAME> --atespace <ATESPACE> [OPTIONS]")]
    Suspend(OneActor),
    /// Snapshot an actor to the disk of its node and free its worker
    #[command(override_usage = "ate pause [actor] <NAME> --atespace <ATESPACE> [OPTIONS]")]
    Pause(OneActor),
    /// Bring a crashed actor back to its last good snapshot
    #[command(override_usage = "ate revert [actor] <NAME> --atespace <ATESPACE> [OPTIONS]")]
    Revert(OneActor),
    /// Tell why an actor is where it is: operation, fence, crash cause, loss, last good snapshot
    #[command(override_usage = "ate explain [actor] <NAME> --atespace <ATESPACE> [OPTIONS]")]
    Explain(OneActor),
    /// Delete an actor that does not run, or an empty atespace
    #[command(
        override_usage = "ate delete [actor] <NAME> --atespace <ATESPACE> [OPTIONS]\n       \
                          ate delete atespace <NAME> [OPTIONS]"
    )]
    Delete(Delete),
    /// Print the script that completes commands in a shell
    #[command(
        after_help = "Examples:\n  source <(ate completion bash)\n  ate completion zsh > ~/.zfunc/_ate\n  \
                            ate completion fish > ~/.config/fish/completions/ate.fish"
    )]
    Completion {
        /// Which shell
        #[arg(value_enum)]
        shell: Shell,
    },
}

#[derive(Debug, Subcommand)]
pub enum Create {
    /// Create an actor, suspended and without a snapshot
    Actor {
        /// The actor's name, unique in its atespace
        #[arg(value_parser = name)]
        name: Name,
        /// The template it is made from
        #[arg(short, long, value_name = "NAMESPACE/NAME", value_parser = template)]
        template: TemplateRef,
        /// The atespace it belongs to
        #[arg(short, long, value_parser = name)]
        atespace: Name,
        /// Only workers of pools with this label may host it; may be given more than once
        #[arg(short = 'l', long = "worker-selector", value_name = "KEY=VALUE", value_delimiter = ',', value_parser = label)]
        labels: Vec<(Name, Name)>,
    },
    /// Create an atespace, a namespace of actors
    Atespace {
        /// The atespace's name
        #[arg(value_parser = name)]
        name: Name,
    },
}

#[derive(Debug, Subcommand)]
pub enum Get {
    /// Show one actor, those of an atespace, or all
    #[command(visible_alias = "actor", group = ArgGroup::new("where").required(true))]
    Actors {
        /// Only this actor
        #[arg(value_parser = name, requires = "atespace", conflicts_with = "all_atespaces")]
        name: Option<Name>,
        /// The actors of this atespace
        #[arg(short, long, group = "where", value_parser = name)]
        atespace: Option<Name>,
        /// The actors of every atespace
        #[arg(short = 'A', long, group = "where")]
        all_atespaces: bool,
    },
    /// Show one atespace, or all
    #[command(visible_alias = "atespace")]
    Atespaces {
        /// Only this atespace
        #[arg(value_parser = name)]
        name: Option<Name>,
    },
    /// Show every worker, and which actor it hosts
    #[command(visible_alias = "worker")]
    Workers,
}

/// Names one actor; the word `actor` may come first, as in kubectl-ate.
#[derive(Debug, Args)]
pub struct OneActor {
    /// The actor's name
    #[arg(value_name = "NAME", required = true, num_args = 1..=2, value_parser = name)]
    words: Vec<Name>,
    /// The atespace it belongs to
    #[arg(short, long, value_parser = name)]
    atespace: Name,
}

impl OneActor {
    /// Which actor.
    pub fn key(self) -> Result<ActorKey, UsageError> {
        match &self.words[..] {
            [name] => Ok(ActorKey::new(self.atespace, name.clone())),
            [kind, name] if is_actor(kind) => Ok(ActorKey::new(self.atespace, name.clone())),
            words => Err(UsageError::kind(words, "actor")),
        }
    }
}

#[derive(Debug, Args)]
pub struct Resume {
    #[command(flatten)]
    pub actor: OneActor,
    /// Start an actor that has no snapshot from its images, even if its template has a golden snapshot
    #[arg(long)]
    pub boot: bool,
}

/// Names an actor or an atespace.
#[derive(Debug, Args)]
pub struct Delete {
    /// The name of the actor, or the word atespace and its name
    #[arg(value_name = "NAME", required = true, num_args = 1..=2, value_parser = name)]
    words: Vec<Name>,
    /// The atespace that the actor belongs to
    #[arg(short, long, value_parser = name)]
    atespace: Option<Name>,
}

/// What is to be deleted.
#[derive(Debug)]
pub enum Deletion {
    Actor(ActorKey),
    Atespace(Name),
}

impl Delete {
    /// What is to be deleted.
    pub fn target(self) -> Result<Deletion, UsageError> {
        let name = match &self.words[..] {
            [kind, name] if kind.as_str() == "atespace" || kind.as_str() == "atespaces" => {
                return match self.atespace {
                    None => Ok(Deletion::Atespace(name.clone())),
                    Some(_) => Err(UsageError::new(
                        ErrorKind::ArgumentConflict,
                        format!(
                            "an atespace is in no other: leave --atespace out to delete atespace '{name}'"
                        ),
                    )),
                };
            }
            [name] => name.clone(),
            [kind, name] if is_actor(kind) => name.clone(),
            words => return Err(UsageError::kind(words, "actor or atespace")),
        };
        match self.atespace {
            Some(atespace) => Ok(Deletion::Actor(ActorKey::new(atespace, name))),
            None => Err(UsageError::new(
                ErrorKind::MissingRequiredArgument,
                format!(
                    "--atespace <ATESPACE> is required: it says which atespace actor '{name}' belongs to"
                ),
            )),
        }
    }
}

/// A shell that completes commands.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// A template, by namespace and name.
#[derive(Clone, Debug)]
pub struct TemplateRef {
    pub namespace: String,
    pub name: String,
}

/// A command line whose parts are well-formed but do not fit together.
#[derive(Debug)]
pub struct UsageError {
    kind: ErrorKind,
    message: String,
}

impl UsageError {
    pub fn new(kind: ErrorKind, message: String) -> UsageError {
        UsageError { kind, message }
    }

    fn kind(words: &[Name], kinds: &str) -> UsageError {
        let first = words.first().map_or("", Name::as_str);
        let message = format!("unexpected word '{first}': what stands before the name can only be {kinds}");
        UsageError::new(ErrorKind::InvalidValue, message)
    }

    /// As the parser of arguments would say it.
    pub fn format(self, command: &mut clap::Command) -> clap::Error {
        command.error(self.kind, self.message)
    }
}

/// The selector that these labels make.
pub fn selector(labels: Vec<(Name, Name)>) -> Result<Selector, UsageError> {
    let mut selector = Selector::default();
    for (key, value) in labels {
        if let Some(other) = selector.match_labels.insert(key.clone(), value.clone())
            && other != value
        {
            let message =
                format!("--worker-selector says both {key}={other} and {key}={value}; a label has one value");
            return Err(UsageError::new(ErrorKind::ArgumentConflict, message));
        }
    }
    check_selector(&selector).map_err(|failure| {
        UsageError::new(
            ErrorKind::TooManyValues,
            format!("--worker-selector: {}", failure.message),
        )
    })?;
    Ok(selector)
}

fn is_actor(kind: &Name) -> bool {
    matches!(kind.as_str(), "actor" | "actors")
}

/// Actors and atespaces follow the same rule, which the server states with the name of its own field.
pub fn name(text: &str) -> Result<Name, String> {
    match check_atespace(text) {
        Ok(()) => Ok(text.into()),
        Err(failure) => Err(match failure.message.split_once(": ") {
            Some((_, rule)) => rule.to_owned(),
            None => failure.message,
        }),
    }
}

pub fn template(text: &str) -> Result<TemplateRef, String> {
    let parts = text
        .split_once('/')
        .filter(|(namespace, name)| is_dns_label(namespace) && is_dns_subdomain(name));
    match parts {
        Some((namespace, name)) => Ok(TemplateRef {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }),
        None => {
            Err("write NAMESPACE/NAME, both lower case as in Kubernetes, such as default/counter".to_owned())
        }
    }
}

fn label(text: &str) -> Result<(Name, Name), String> {
    let (key, value) = text.split_once('=').ok_or("write KEY=VALUE, such as tier=gpu")?;
    let pair = (Name::from(key), Name::from(value));
    let alone = Selector {
        match_labels: [pair.clone()].into(),
    };
    check_selector(&alone).map_err(|failure| failure.message)?;
    Ok(pair)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(line: &str) -> Command {
        let words = std::iter::once("ate").chain(line.split_whitespace());
        Cli::try_parse_from(words)
            .unwrap_or_else(|error| panic!("{line}: {error}"))
            .command
    }

    #[test]
    fn the_declaration_holds_together() {
        command().debug_assert();
    }

    #[test]
    fn the_word_actor_may_stand_before_the_name_of_one() {
        for (line, expected) in [
            ("pause counter-1 -a demo", "counter-1"),
            ("pause actor counter-1 -a demo", "counter-1"),
            ("pause -a demo actors counter-1", "counter-1"),
            ("pause actor -a demo", "actor"),
            ("pause actor actor -a demo", "actor"),
        ] {
            let Command::Pause(actor) = parse(line) else {
                panic!("{line}")
            };
            assert_eq!(actor.key().unwrap(), ActorKey::new("demo", expected), "{line}");
        }
    }

    #[test]
    fn what_is_deleted_is_an_actor_unless_the_word_atespace_comes_first() {
        for line in ["delete a -a demo", "delete actor a -a demo"] {
            let Command::Delete(delete) = parse(line) else {
                panic!("{line}")
            };
            assert!(
                matches!(delete.target(), Ok(Deletion::Actor(key)) if key == ActorKey::new("demo", "a")),
                "{line}"
            );
        }
        let Command::Delete(delete) = parse("delete atespace demo") else {
            panic!()
        };
        assert!(matches!(delete.target(), Ok(Deletion::Atespace(name)) if name.as_str() == "demo"));
    }

    #[test]
    fn labels_may_be_given_one_by_one_or_together() {
        let Command::Create(Create::Actor { labels, .. }) =
            parse("create actor a -t ns/t -a demo -l tier=gpu -l example.com/zone=b,empty=")
        else {
            panic!()
        };
        let selector = selector(labels).unwrap();
        let labels: Vec<_> = selector
            .match_labels
            .iter()
            .map(|(k, v)| format!("{k}={v}"))
            .collect();
        assert_eq!(labels, ["empty=", "example.com/zone=b", "tier=gpu"]);
    }
}
