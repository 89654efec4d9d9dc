//! Going over to other options while clients are connected.

use std::sync::Arc;
use std::time::Instant;

use super::files::PidFile;
use super::{
    ReloadError, Server, ServerError, State, check, distribute, lock, log_options, server_info,
};
use crate::config::options::Options;
use crate::config::{self, Changes, Loaded};
use crate::log::{error, info, warn};
use crate::net::mailbox::Settings;
use crate::net::tls::TlsContexts;

/// Options that say who may come in and do what. Those who are in already are judged anew.
const CREDENTIALS: [&str; 7] = [
    "accounts",
    "auth_token",
    "nkeys",
    "no_auth_user",
    "password",
    "user",
    "users",
];

impl Server {
    /// Sets what has [`Server::reload_for_askers`] called soon, by another thread, when the system account asks for a
    /// reload; without it, such a request is answered with an error. Only the first one counts.
    pub fn set_reloader(&self, reload: impl Fn() + Send + Sync + 'static) {
        self.control.set_reloader(reload);
    }

    /// Runs `reload`, and tells those who have asked for it over the system account what came of it: the reasons why
    /// not, or none.
    pub fn reload_for_askers(&self, reload: impl FnOnce() -> Vec<String>) {
        // Whoever asks from now on wants one that begins later.
        let askers = self.control.take_reload_askers();
        let reasons = reload();
        let outcome = match reasons.is_empty() {
            true => Ok(()),
            false => Err(reasons.join("; ")),
        };
        self.control.answer_reloads(askers, outcome);
    }

    /// Goes over to other options, all of them or none. No connection notices, but for those beyond a lower
    /// `max_connections` and those whose own credentials or permissions are others now; on return the new limits hold for
    /// what clients send.
    ///
    /// # Errors
    ///
    /// Every reason why not; then nothing has changed.
    pub fn reload(&self, new: Loaded) -> Result<(), ReloadError> {
        let Loaded {
            options,
            digest,
            warnings,
        } = new;
        check(&options).map_err(|error| ReloadError::Options(vec![error.to_string()]))?;
        let mut state = lock(&self.state);
        let changes = config::diff(&state.settings.options, &options).map_err(|refused| {
            ReloadError::Options(refused.iter().map(ToString::to_string).collect())
        })?;
        // What can fail comes first.
        let tls = TlsContexts::load(&options).map_err(ServerError::Tls)?;
        let pid_file = options.pid_file.as_deref();
        let pid_file = pid_file.filter(|_| changes.has("pid_file"));
        let pid_file = pid_file.map(PidFile::prepare).transpose()?;
        self.watch_files(&mut state, &options)
            .map_err(ServerError::System)?;
        self.switch_log(&state.settings.options, &options, &changes)?;
        if let Some(Err(error)) = pid_file.map(|it| state.files.write_pid(it)) {
            error!(self.shared.log, "{error}");
        }
        self.apply(&mut state, options, Arc::new(tls), &changes, &digest);
        for warning in &warnings {
            warn!(self.shared.log, "{warning}");
        }
        info!(self.shared.log, "Reloaded server configuration ({digest})");
        Ok(())
    }

    /// Logs the changes to the old log, and goes on with the new one.
    fn switch_log(
        &self,
        old: &Options,
        new: &Options,
        changes: &Changes,
    ) -> Result<(), ServerError> {
        let log = &self.shared.log;
        let announce = || {
            for line in &changes.log {
                info!(log, "{line}");
            }
        };
        let new = log_options(new);
        if log_options(old) == new {
            announce();
            return Ok(());
        }
        log.reconfigure_after(&new, announce)
            .map_err(ServerError::Log)
    }

    fn apply(
        &self,
        state: &mut State,
        options: Options,
        tls: Arc<TlsContexts>,
        changes: &Changes,
        digest: &str,
    ) {
        if changes.has("ports_file_dir") {
            let log = &self.shared.log;
            state.files.remove_ports(log);
            if let Some(dir) = &options.ports_file_dir {
                state.files.write_ports(dir, self.ports(&options), log);
            }
        }
        let old = &state.settings.info;
        let mut info = server_info(&options, old.server_id.clone(), self.addr.port());
        info.lame_duck = old.lame_duck;
        let Settings {
            auth,
            broker,
            options: old,
            ..
        } = &*state.settings;
        let (mut auth, mut broker) = (Arc::clone(auth), Arc::clone(broker));
        let has_credentials = CREDENTIALS.iter().any(|option| changes.has(option));
        if has_credentials {
            auth = Arc::new(auth.renewed(&options));
        }
        // Mappings can be for a cluster of one name alone.
        if has_credentials || old.cluster.name != options.cluster.name {
            broker = Arc::new(broker.renewed(auth.names_and_limits()).planned(&options));
        }
        state.settings = Arc::new(Settings {
            options,
            info,
            auth,
            broker,
            tls,
            digest: digest.into(),
            loaded: Instant::now(),
        });
        distribute(&self.shared, &self.control, &state.settings, false);
    }
}
