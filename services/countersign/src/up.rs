//! Runs roles until a signal or until one of them fails.
//!
//! The order: configuration, telemetry, addresses, log, topics, roles, `ready` on stdout. One signal drains, a second ends
//! at once.

use std::io::Write as _;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::mpsc::Receiver;
use std::time::Duration;

use access::{Authenticator, Directory, Store, TenantSettings};
use axum::Router;
use event::id::TenantId;
use metrics_exporter_prometheus::PrometheusHandle;
use stage::Stop;
use tokio::net::TcpListener;
use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinHandle;
use view::{View, ViewState};

use crate::admin::{self, AdminState};
use crate::cli::Serve;
use crate::config::Config;
use crate::data_dir::{DataDir, Run};
use crate::failure::{Doing as _, Failure};
use crate::patience::Patience;
use crate::roles::{self, Crew, Ended, Role, Shared};
use crate::substrate::{Substrate, configure, of_fault};
use crate::{telemetry, type_files};

/// Runs these roles in this process.
pub(crate) fn run(serve: &Serve, roles: &[Role]) -> Result<ExitCode, Failure> {
    let (config, data) = configure(&serve.place, &serve.overrides())?;
    let metrics = telemetry::start(&config.telemetry)?;
    data.require_room()?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().doing("the runtime cannot be started")?;
    let outcome = runtime.block_on(serve_roles(config, data, metrics, roles));
    // Blocking tasks of readers that wait for the log must not hold the exit.
    runtime.shutdown_timeout(std::time::Duration::from_secs(5));
    outcome
}

async fn serve_roles(
    mut config: Config,
    data: DataDir,
    metrics: PrometheusHandle,
    roles: &[Role],
) -> Result<ExitCode, Failure> {
    let has = |role| roles.contains(&role);
    let serves_http = has(Role::Ingest) || has(Role::View);
    let admin_listener = bind(config.http.admin, "http.admin").await?;
    config.http.admin = admin_listener.local_addr().doing("the admin address is not known")?;
    let listener = if serves_http { Some(bind(config.http.listen, "http.listen").await?) } else { None };
    if let Some(listener) = &listener {
        config.http.listen = listener.local_addr().doing("the address is not known")?;
    }

    let starting = Arc::new(Patience::begin("starting", "the log", data.clone())?);
    let told = Arc::clone(&starting);
    let opened = tokio::task::spawn_blocking(move || {
        let substrate = Substrate::with(config, data)?;
        told.waits_for("the topics");
        substrate.apply_topics()?;
        Ok::<_, Failure>(substrate)
    });
    let substrate = Arc::new(opened.await.doing("opening the log was cut short")??);
    let stop = Stop::new();
    let mut crew = Crew::new(stop.clone());
    let process = Process { substrate: Arc::clone(&substrate), stop: stop.clone(), doors: Stop::new(), metrics };
    let started = process.start(&mut crew, roles, (listener, admin_listener), &starting).await;
    drop(starting);
    let ended = crew.ended.take();
    let code = match started {
        Ok(listeners) => {
            let code = process.wait(ended).await;
            // The doors close first: whoever waits for an answer still gets it from the steps.
            process.doors.request();
            for listener in listeners {
                listener.await.doing("a listener was cut short")?;
            }
            code
        }
        Err(failure) => Err(failure),
    };
    if let Err(failure) = &code {
        // The person who started it hears why before anything has to end in good order.
        tracing::error!(%failure, "ending");
    }
    stop.request();
    substrate.data.withdraw();
    let _ending = Patience::begin("ending", "the threads", substrate.data.clone())?;
    tokio::task::spawn_blocking(move || crew.join()).await.doing("the threads could not be joined")?;
    code
}

/// Binds before any work is done: a taken address is told at once.
async fn bind(address: std::net::SocketAddr, key: &str) -> Result<TcpListener, Failure> {
    TcpListener::bind(address).await.map_err(|error| {
        Failure::new(format!("{address} cannot be listened on"))
            .because(error)
            .try_this(format!("stop what holds it, or choose another {key} (--listen, --admin)"))
    })
}

struct Process {
    substrate: Arc<Substrate>,
    stop: Stop,
    /// Of the listeners, which end before the steps do.
    doors: Stop,
    metrics: PrometheusHandle,
}

impl Process {
    async fn start(
        &self,
        crew: &mut Crew,
        roles: &[Role],
        (listener, admin_listener): (Option<TcpListener>, TcpListener),
        starting: &Patience,
    ) -> Result<Vec<JoinHandle<()>>, Failure> {
        let substrate = &self.substrate;
        let has = |role| roles.contains(&role);
        let directory = Arc::new(Directory::new());
        let (followed, log) = (Arc::clone(&directory), Arc::clone(&substrate.log));
        crew.spawn("directory", move |stop| {
            followed.follow(log.as_ref(), &|| stop.requested());
            Ok(())
        })?;

        starting.waits_for("the tenants' configuration");
        // Nothing is decided by a configuration that is only half read.
        let (caught_up, log) = (Arc::clone(&directory), Arc::clone(&substrate.log));
        let read = tokio::task::spawn_blocking(move || caught_up.catch_up(log.as_ref()));
        read.await.doing("reading the tenants' configuration was cut short")?.map_err(of_fault)?;

        let mut admin = AdminState::new(Arc::clone(substrate), self.metrics.clone());
        let mut api = Router::new();
        let mut documents = Vec::new();
        if has(Role::View) {
            starting.waits_for("the read model's database");
            let (router, view) = self.start_view(crew, &directory).await?;
            api = api.merge(router);
            documents.push(<view::ViewApi as utoipa::OpenApi>::openapi());
            admin.view = Some(view);
        }
        if has(Role::Ingest) {
            starting.waits_for("access.db, and what ingest publishes of it");
            let ingest = self.start_ingest(&directory, documents).await?;
            api = api.merge(ingest::router(ingest.state.clone()));
            let state = ingest.state.clone();
            admin.check("ingest", move || {
                let missing = state.missing();
                if missing.is_empty() { Ok(()) } else { Err(missing.join(", ")) }
            });
            crew.keep(ingest);
        }
        let shared = Shared::new(substrate, Arc::clone(&directory));
        for role in roles {
            match role {
                // Both are on the listener already.
                Role::Ingest | Role::View => {}
                Role::Canonicalise => roles::canonicalise(&shared, crew, &substrate.config)?,
                Role::Sign => {
                    starting.waits_for("the signing keys");
                    let (log, data) = (Arc::clone(&substrate.log), substrate.data.clone());
                    let keys = tokio::task::spawn_blocking(move || roles::signing_keys(log, &data));
                    roles::sign(&shared, crew, keys.await.doing("the signing keys were not read")??)?;
                }
                Role::Meter => roles::meter(&shared, crew)?,
                Role::Settle => roles::settle(&shared, crew, substrate)?,
                Role::Forward => roles::forward(&shared, crew, &substrate.config)?,
                Role::Audit => roles::audit(&shared, crew, substrate)?,
            }
        }
        let served = listener.map(|listener| (listener, access::edge::dress(api, &substrate.config.base_url())));
        self.announce(served, admin, admin_listener).await
    }

    /// The read model: filled on a thread of its own, asked over HTTP.
    async fn start_view(&self, crew: &mut Crew, directory: &Arc<Directory>) -> Result<(Router, View), Failure> {
        let (config, data) = (&self.substrate.config, &self.substrate.data);
        let database = admin::model::database(config, data);
        let view = View::open(database).await.doing("the read model cannot be opened")?;
        let (log, keys_of) = (Arc::clone(&self.substrate.log), data.clone());
        let opened = tokio::task::spawn_blocking(move || roles::bundle_keys(log, &keys_of));
        let bundle_keys = opened.await.doing("the bundle keys were not read")??;
        roles::follow_keys(crew, "bundle-keys", &bundle_keys)?;
        let (log, followed) = (Arc::clone(&self.substrate.log), view.clone());
        crew.spawn("view", move |stop| Ok(view::follow(log.as_ref(), &followed, stop)?))?;
        let router = view::router(ViewState {
            view: view.clone(),
            log: Arc::clone(&self.substrate.log),
            authenticator: Authenticator::new(Arc::clone(directory)),
            bundle_keys,
        });
        Ok((router, view))
    }

    /// The door: tenants of the configuration file are known before the first request.
    async fn start_ingest(
        &self,
        directory: &Arc<Directory>,
        documents: Vec<utoipa::openapi::OpenApi>,
    ) -> Result<ingest::Ingest, Failure> {
        let config = &self.substrate.config;
        let store = Store::open(&self.substrate.data.access_db()).await.doing("access.db cannot be opened")?;
        for (id, tenant) in &config.tenants {
            let id = TenantId::parse(id.as_str()).doing("a table tenants.<id> of the configuration has no valid id")?;
            store.ensure_tenant(&id).await.doing("a tenant cannot be written to access.db")?;
            let known = store.tenant(&id).await.doing("a tenant cannot be read from access.db")?;
            let Some(known) = known else { continue };
            let settings = TenantSettings {
                forward_allowlist: tenant.forward_allowlist.clone(),
                repair: tenant.repair.unwrap_or(known.repair),
                ..known.clone()
            };
            if settings != known {
                store.set_tenant(&id, &settings).await.doing("a tenant cannot be written to access.db")?;
            }
        }
        let types = type_files::to_publish(config.types.directory.as_deref())?;
        access::publish_types(&self.substrate.log, directory, &types).await.map_err(|error| {
            Failure::new("the payload types are not in force").because(error).try_this(
                "a published type never changes, for its name is in receipts: give the new definition a new name",
            )
        })?;
        let days = config.dedup_window_days.days();
        let settings = ingest::Config {
            slot: config.http.slot,
            base_url: config.base_url(),
            dedup_window: days.map(|days| Duration::from_secs(u64::from(days) * 86_400)),
            ..ingest::Config::default()
        };
        let access = (store, Arc::clone(directory));
        ingest::start(settings, Arc::clone(&self.substrate.log), access, documents, &self.stop)
            .await
            .doing("ingest cannot be started")
    }

    /// Serves both listeners, says who runs here, and that it is ready.
    async fn announce(
        &self,
        served: Option<(TcpListener, Router)>,
        admin: AdminState,
        admin_listener: TcpListener,
    ) -> Result<Vec<JoinHandle<()>>, Failure> {
        let limits = ingest::ServeLimits::default();
        let http = served.as_ref().map(|_| self.substrate.config.http.listen);
        let admin_address = self.substrate.config.http.admin;
        let mut routers = vec![(admin_listener, admin::router(admin))];
        routers.extend(served);
        let mut listeners = Vec::new();
        for (listener, router) in routers {
            let doors = self.doors.clone();
            listeners.push(tokio::spawn(async move {
                if let Err(error) = ingest::serve(router, listener, limits, &doors).await {
                    tracing::error!(%error, "a listener ended");
                }
            }));
        }
        let run = Run { pid: std::process::id(), http, admin: admin_address };
        self.substrate.data.announce(&run).doing("run.json cannot be written")?;
        let ready = match http {
            Some(http) => format!("ready http=http://{http} admin=http://{admin_address}\n"),
            None => format!("ready admin=http://{admin_address}\n"),
        };
        let mut stdout = std::io::stdout().lock();
        stdout.write_all(ready.as_bytes()).and_then(|()| stdout.flush()).doing("nobody reads stdout")?;
        Ok(listeners)
    }

    /// Until a signal, or until a thread ends that nobody asked to.
    async fn wait(&self, ended: Option<Receiver<Ended>>) -> Result<ExitCode, Failure> {
        let mut terminate = signal(SignalKind::terminate()).doing("signals cannot be heard")?;
        let mut interrupt = signal(SignalKind::interrupt()).doing("signals cannot be heard")?;
        let failed = tokio::task::spawn_blocking(move || ended.and_then(|ended| ended.recv().ok()));
        tokio::select! {
            _ = terminate.recv() => tracing::info!("ending: SIGTERM"),
            _ = interrupt.recv() => tracing::info!("ending: SIGINT"),
            failed = failed => {
                let what = match failed {
                    Ok(Some(ended)) => format!("{} ended: {}", ended.thread, ended.why),
                    _ => "the threads are gone".to_owned(),
                };
                let failure = Failure::new(what);
                return Err(match self.substrate.data.room() {
                    Ok(()) => failure.try_this("start it again; the log says why it ended"),
                    Err(error) => failure.because(error).try_this("make room in the data directory, then start it again"),
                });
            }
        }
        // The second signal does not wait for the drain.
        tokio::spawn(async move {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::warn!("ending at once: a second signal");
            std::process::exit(130);
        });
        Ok(ExitCode::SUCCESS)
    }
}
