//! A cluster as what surrounds a replica.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use futures_util::{StreamExt, stream};
use holdfast_control::{DERIVED, Known, SecretUnknown, Surroundings, Teller};
use holdfast_core::catalog::{Catalog, Template};
use holdfast_core::effect::{NodeCall, NodeFailure};
use holdfast_core::id::{Name, PodUid};
use holdfast_core::registry::Report;
use holdfast_core::settings::Settings;
use holdfast_manifests::{Kind, Secrets};
use holdfast_runtime::clock::Clock;
use holdfast_runtime::tokio;
use holdfast_runtime::tokio::sync::Notify;
use kube::api::{ApiResource, DynamicObject, GroupVersionKind};
use kube::{Api, Client, ResourceExt};

use crate::declared::Declarations;
use crate::fleet::{Fleet, PodName, Way};
use crate::pods::{self, ServedPod};
use crate::secrets::SecretCache;
use crate::watch::{self, News};

/// Group and version of the custom resources.
const GROUP: &str = "ate.dev";
const VERSION: &str = "v1alpha1";
/// The custom resources, with the plurals under which they are served.
const DECLARED: [(Kind, &str, &str); 3] = [
    (Kind::ActorTemplate, "ActorTemplate", "actortemplates"),
    (Kind::WorkerPool, "WorkerPool", "workerpools"),
    (Kind::SandboxConfig, "SandboxConfig", "sandboxconfigs"),
];
/// The lists that are read before a replica begins: those of custom resources, and these two.
const LISTS: usize = DECLARED.len() + 2;
const WORKERS: usize = LISTS - 2;
const ATELETS: usize = LISTS - 1;
/// How many pods are asked for by name at once.
const ASKED_AT_ONCE: usize = 16;
/// How soon a pod is asked for again, whose row is there and which is in no list.
const ASK_AGAIN_AFTER: Duration = Duration::from_secs(2);

/// What a replica knows of its cluster, and hears.
pub struct Cluster {
    client: Client,
    clock: Arc<dyn Clock>,
    report_every: Duration,
    secrets: SecretCache,
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Something has changed.
    changed: Notify,
}

struct State {
    fleet: Fleet,
    declarations: Declarations,
    /// Which lists have been read.
    listed: [bool; LISTS],
    /// The catalog is not what the replica has been told.
    is_redeclared: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        change(&mut self.state());
        self.changed.notify_one();
    }
}

impl Cluster {
    /// The cluster behind this client, followed from now on. Its atelets listen at this port.
    pub fn follow(client: Client, atelet_port: u16, settings: &Settings, clock: Arc<dyn Clock>) -> Cluster {
        // What pods tell knows nothing of sessions: it must not take the place of the node's last word before its session
        // has been declared over by that.
        let respected_for = settings.session_over_after() * 2;
        let state = State {
            fleet: Fleet::new(DERIVED, respected_for),
            declarations: Declarations::default(),
            listed: [false; LISTS],
            is_redeclared: false,
        };
        let shared = Arc::new(Shared {
            state: Mutex::new(state),
            changed: Notify::new(),
        });
        let cluster = Cluster {
            secrets: SecretCache::new(client.clone(), clock.clone()),
            client,
            clock,
            report_every: settings.node.heartbeat_every,
            shared,
        };
        cluster.follow_workers();
        cluster.follow_atelets(atelet_port);
        for (index, (kind, name, plural)) in DECLARED.into_iter().enumerate() {
            cluster.follow_declared(index, kind, name, plural);
        }
        cluster
    }

    fn follow_workers(&self) {
        let shared = Arc::downgrade(&self.shared);
        let api: Api<ServedPod> = Api::all_with(self.client.clone(), &pods::resource());
        let hear = move |news| {
            let Some(shared) = shared.upgrade() else {
                return false;
            };
            shared.change(|state| match news {
                News::Listed(all) => {
                    let read = all
                        .iter()
                        .map(|pod| (name_of(pod), uid_of(pod), pods::worker(pod)));
                    state.fleet.pods_listed(read.collect());
                    state.listed[WORKERS] = true;
                }
                News::There(pod) => state.fleet.pod(&name_of(&pod), &uid_of(&pod), pods::worker(&pod)),
                News::Gone(pod) => state.fleet.pod_gone(&name_of(&pod), &uid_of(&pod)),
            });
            true
        };
        tokio::spawn(watch::follow(
            "worker pods",
            api,
            Some(pods::WORKER_POOL_LABEL),
            hear,
        ));
    }

    fn follow_atelets(&self, port: u16) {
        let shared = Arc::downgrade(&self.shared);
        let api: Api<ServedPod> =
            Api::namespaced_with(self.client.clone(), pods::ATELET_NAMESPACE, &pods::resource());
        let hear = move |news| {
            let Some(shared) = shared.upgrade() else {
                return false;
            };
            shared.change(|state| match news {
                News::Listed(all) => {
                    let read = all.iter().map(|pod| (name_of(pod).1, pods::atelet(pod, port)));
                    state.fleet.atelets_listed(read.collect());
                    state.listed[ATELETS] = true;
                }
                News::There(pod) => state.fleet.atelet(&name_of(&pod).1, pods::atelet(&pod, port)),
                News::Gone(pod) => state.fleet.atelet_gone(&name_of(&pod).1),
            });
            true
        };
        tokio::spawn(watch::follow(
            "atelet pods",
            api,
            Some(pods::ATELET_SELECTOR),
            hear,
        ));
    }

    fn follow_declared(&self, index: usize, kind: Kind, name: &'static str, plural: &'static str) {
        let shared = Arc::downgrade(&self.shared);
        let resource =
            ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk(GROUP, VERSION, name), plural);
        let api: Api<DynamicObject> = Api::all_with(self.client.clone(), &resource);
        let hear = move |news| {
            let Some(shared) = shared.upgrade() else {
                return false;
            };
            shared.change(|state| {
                let is_new = match news {
                    News::Listed(all) => {
                        state.listed[index] = true;
                        let all: Vec<_> = all.into_iter().map(|object| as_json(object, name)).collect();
                        state.declarations.listed(kind, &all)
                    }
                    News::There(object) => state.declarations.apply(kind, &as_json(object, name)),
                    News::Gone(object) => {
                        let namespace = object.namespace().unwrap_or_default();
                        state.declarations.remove(kind, &namespace, &object.name_any())
                    }
                };
                state.is_redeclared |= is_new;
            });
            true
        };
        tokio::spawn(watch::follow(plural, api, None, hear));
    }

    /// Tells the replica what is new, or of every node if it is time for that.
    async fn tell(&self, replica: &Teller, is_time: bool) {
        let (catalog, reports) = {
            let mut state = self.shared.state();
            let is_redeclared = std::mem::take(&mut state.is_redeclared);
            let catalog = is_redeclared.then(|| state.declarations.catalog());
            let mut nodes = state.fleet.take_changed();
            if is_time {
                nodes = state.fleet.all_nodes();
            }
            let now = self.clock.now();
            let reports: Vec<_> = nodes
                .iter()
                .filter_map(|node| state.fleet.report(now, node))
                .collect();
            (catalog, reports)
        };
        if let Some(catalog) = catalog {
            tracing::info!("templates, pools or sandbox configurations have changed");
            replica.declared(catalog);
        }
        for report in reports {
            replica.reported(report).await;
        }
    }

    /// Asks for the pods of rows that no list has, until all are known to be there or to be gone.
    async fn look_for_unknown(&self) {
        let unknown = self.shared.state().fleet.unknown();
        let asking = stream::iter(unknown).for_each_concurrent(ASKED_AT_ONCE, async |(name, uid)| {
            // What cannot be asked now is asked again.
            if let Ok(false) = is_there(self.client.clone(), &name, &uid).await {
                self.shared.change(|state| state.fleet.confirmed_gone(&uid));
            }
        });
        asking.await;
    }
}

#[tonic::async_trait]
impl Surroundings for Cluster {
    async fn begin(&self) -> Catalog {
        loop {
            {
                let mut state = self.shared.state();
                if state.listed.iter().all(|is_listed| *is_listed) {
                    state.is_redeclared = false;
                    return state.declarations.catalog();
                }
            }
            self.shared.changed.notified().await;
        }
    }

    async fn follow(&self, replica: Teller) {
        let telling = async {
            self.tell(&replica, true).await;
            let mut due = self.clock.now().plus(self.report_every);
            while !replica.is_gone() {
                tokio::select! {
                    biased;
                    () = self.shared.changed.notified() => self.tell(&replica, false).await,
                    () = holdfast_runtime::clock::sleep_until(&*self.clock, due) => {
                        due = self.clock.now().plus(self.report_every);
                        self.tell(&replica, true).await;
                    }
                }
            }
        };
        let looking = async {
            loop {
                tokio::time::sleep(ASK_AGAIN_AFTER).await;
                self.look_for_unknown().await;
            }
        };
        tokio::select! {
            biased;
            () = telling => {}
            () = looking => {}
        }
    }

    async fn secrets(&self, template: &Template) -> Result<Secrets, SecretUnknown> {
        self.secrets.of(template).await
    }

    fn learn(&self, known: Known<'_>) {
        let mut state = self.shared.state();
        match known {
            Known::Worker(worker) => state.fleet.row(worker),
            Known::WorkerGone(key) => state.fleet.row_gone(key),
            Known::Node(row) => state.fleet.spoke(self.clock.now(), &row.name),
        }
        // Nearly every write to a row is a promise, which changes nothing here.
        if state.fleet.has_changed() {
            self.shared.changed.notify_one();
        }
    }

    fn relate(&self, report: Report) -> Report {
        let now = self.clock.now();
        self.shared.state().fleet.said(now, report)
    }

    async fn admit(&self, call: &NodeCall) -> Result<(), NodeFailure> {
        let way = self.shared.state().fleet.way(call);
        match way {
            Way::Free => Ok(()),
            Way::Closed(failure) => Err(failure),
            Way::Ask(name, uid) => match is_there(self.client.clone(), &name, &uid).await {
                Ok(true) => match self.shared.state().fleet.way_to(&call.node) {
                    Way::Closed(failure) => Err(failure),
                    Way::Free | Way::Ask(..) => Ok(()),
                },
                Ok(false) => {
                    self.shared.change(|state| state.fleet.confirmed_gone(&uid));
                    Err(crate::fleet::pod_is_gone())
                }
                Err(error) => {
                    let (namespace, pod) = &name;
                    let message =
                        format!("cannot tell whether worker pod {namespace}/{pod} is there: {error}");
                    Err(NodeFailure::unreachable(message))
                }
            },
        }
    }
}

/// Whether the API server has this very pod.
async fn is_there(client: Client, (namespace, name): &PodName, uid: &PodUid) -> kube::Result<bool> {
    let api: Api<ServedPod> = Api::namespaced_with(client, namespace.as_str(), &pods::resource());
    let found = api.get_opt(name.as_str()).await?;
    Ok(found.is_some_and(|pod| uid_of(&pod) == *uid && !matches!(pods::worker(&pod), pods::Read::Ended)))
}

fn name_of(pod: &ServedPod) -> PodName {
    let text = |field: &Option<String>| Name::from(field.as_deref().unwrap_or_default());
    (text(&pod.metadata.namespace), text(&pod.metadata.name))
}

fn uid_of(pod: &ServedPod) -> PodUid {
    pod.metadata.uid.as_deref().unwrap_or_default().into()
}

/// An object as JSON, with its kind, which the items of a list may leave out.
fn as_json(object: DynamicObject, kind: &str) -> serde_json::Value {
    let mut json = object.data;
    let metadata = &object.metadata;
    json["apiVersion"] = format!("{GROUP}/{VERSION}").into();
    json["kind"] = kind.into();
    json["metadata"] = serde_json::json!({
        "namespace": metadata.namespace,
        "name": metadata.name,
        "uid": metadata.uid,
        "labels": metadata.labels,
    });
    json
}
