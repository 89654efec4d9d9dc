//! Who a client is: the one gate that every CONNECT goes through.
//!
//! ```text
//! nkey given, and there are key users ─► signature of the nonce
//! certificates name users ─► the user that the certificate names, with its password if it has one
//! nothing given ─► no_auth_user, if there is one
//! user given, and there are users ─► that user's password
//! else ─► the token, else the single user
//! ```
//!
//! The first line that applies decides; there is no second chance. Computing a password hash takes a tenth of a second
//! and more, so that is left to the caller: a [`Challenge`] goes out, and the answer comes back to the session.

mod certificate;
mod review;

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::hint::black_box;
use std::sync::Arc;

pub use certificate::Mapped;

use self::certificate::Mapping;
use super::permissions::Rules;
use super::signature::{self, Flaw};
use crate::certificate::Certificate;
use crate::config::options::{
    Account, AccountLimits, Cluster, ConnectionType, Options, Permissions, Secret, TlsConfig,
};
use crate::nkey;
use crate::proto::connect::Connect;

pub use review::Review;

/// The account of those who name none.
const GLOBAL: &str = "$G";

/// What a connection is known to be, shared by all connections that are the same.
#[derive(Debug)]
pub struct Identity {
    /// Whom the credentials named.
    pub who: Who,
    /// Place of the account in [`Authenticator::accounts`].
    pub account: u32,
    /// The account.
    pub account_name: Arc<str>,
    /// Whether that is the system account.
    pub is_system: bool,
    /// What it may do; everything when absent.
    pub rules: Option<Arc<Rules>>,
    /// Bytes in one message, from the account's limits.
    pub max_payload: Option<usize>,
    /// Subscriptions of one connection, from the account's limits.
    pub max_subscriptions: Option<usize>,
}

/// Whom credentials name. Shows itself as logs have it: `user:joe`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Who {
    /// Anybody: no credentials were needed.
    Anyone,
    /// The owner of a key.
    Nkey(Box<str>),
    /// Whoever knows the token.
    Token,
    /// A user with a name.
    User(Box<str>),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Who::Anyone => Ok(()),
            Who::Nkey(key) => write!(f, "nkey:{key}"),
            Who::Token => f.write_str("token"),
            Who::User(name) => write!(f, "user:{name}"),
        }
    }
}

/// What comes of credentials.
#[derive(Debug)]
pub enum Verdict {
    /// They are right.
    Accepted(Arc<Identity>),
    /// They are not; with a signature, why.
    Refused(Option<Flaw>),
    /// That takes a while to find out.
    Verify(Box<Challenge>),
}

/// A password and the hash that it may have.
#[derive(Debug)]
pub struct Challenge {
    hash: Secret,
    password: Secret,
    /// Who it is if the hash is right; nobody if the computation is only for show.
    identity: Option<Arc<Identity>>,
}

impl Challenge {
    /// Computes the hash, which takes long, and says whether it is right.
    #[must_use]
    pub fn is_right(&self) -> bool {
        // An error is a hash that nothing matches.
        bcrypt::verify(self.password.reveal(), self.hash.reveal()).unwrap_or(false)
    }

    /// What tells this pair of hash and password from others: secret, to be hashed at once.
    #[must_use]
    pub fn pair(&self) -> [&[u8]; 2] {
        [
            self.hash.reveal().as_bytes(),
            self.password.reveal().as_bytes(),
        ]
    }

    /// Who it is, given whether the hash was right.
    #[must_use]
    pub fn settle(self, is_right: bool) -> Verdict {
        match self.identity.filter(|_| is_right) {
            Some(identity) => Verdict::Accepted(identity),
            None => Verdict::Refused(None),
        }
    }
}

/// An account as the configuration has it.
#[derive(Debug)]
pub struct AccountEntry {
    /// The name.
    pub name: Arc<str>,
    /// Its limits.
    pub limits: AccountLimits,
    /// Whether it is the system account.
    pub is_system: bool,
    /// Whether the configuration still has it; else it only keeps its place, for the accounts behind it.
    pub is_configured: bool,
}

/// A secret, and who proves to be whom by it.
#[derive(Debug)]
struct Login {
    secret: Secret,
    identity: Arc<Identity>,
    /// Whether a TCP or TLS connection may be used.
    takes_standard: bool,
}

/// Who may come in without credentials.
#[derive(Debug)]
enum Nameless {
    /// Nobody.
    Nobody,
    /// The key user with this key, but not before CONNECT.
    Nkey(String),
    /// All that give none, to the default account.
    Open,
    /// The user with this name.
    User(String),
}

/// See the module's documentation. Built from options, replaced as a whole with them.
#[derive(Debug)]
pub struct Authenticator {
    accounts: Vec<AccountEntry>,
    users: HashMap<String, Login>,
    nkeys: HashMap<String, Login>,
    token: Option<Login>,
    single: Option<(String, Login)>,
    nameless: Nameless,
    /// A client may have to prove who it is.
    required: bool,
    /// Whoever comes where no credentials are needed.
    open: Arc<Identity>,
    /// Whether the first INFO says that credentials are needed.
    announced: bool,
    /// How certificates name users, where they do.
    mapping: Option<Mapping>,
    /// A hash to compute for a user that does not exist, so that it takes as long as for one that does.
    decoy: Option<Secret>,
}

impl Authenticator {
    /// The gate that these options ask for. They have been checked.
    #[must_use]
    pub fn new(options: &Options) -> Self {
        Authenticator::with_places(options, &[])
    }

    /// The gate for other options. Accounts keep their places.
    #[must_use]
    pub fn renewed(&self, options: &Options) -> Self {
        Authenticator::with_places(options, &self.accounts)
    }

    fn with_places(options: &Options, places: &[AccountEntry]) -> Self {
        let accounts = account_entries(options, places);
        let mut people = People {
            accounts: &accounts,
            places: accounts.iter().map(|it| &*it.name).zip(0..).collect(),
            compiled: Vec::new(),
        };
        let (mut users, mut nkeys) = (HashMap::new(), HashMap::new());
        let own = options.accounts.iter().map(|account| {
            let (users, nkeys) = (&account.users, &account.nkeys);
            (account.name.as_str(), users, nkeys)
        });
        for (account, of_users, of_nkeys) in own.chain([(GLOBAL, &options.users, &options.nkeys)]) {
            for user in of_users {
                let who = Who::User(user.user.as_str().into());
                let login = Login {
                    secret: user.password.clone(),
                    identity: people.identity(account, who, user.permissions.as_ref()),
                    takes_standard: takes_standard(&user.allowed_connection_types),
                };
                users.insert(user.user.clone(), login);
            }
            for user in of_nkeys {
                let who = Who::Nkey(user.nkey.as_str().into());
                let login = Login {
                    secret: Secret::default(),
                    identity: people.identity(account, who, user.permissions.as_ref()),
                    takes_standard: takes_standard(&user.allowed_connection_types),
                };
                nkeys.insert(user.nkey.clone(), login);
            }
        }
        let mut login = |who, secret: Option<&Secret>| Login {
            secret: secret.cloned().unwrap_or_default(),
            identity: people.identity(GLOBAL, who, None),
            takes_standard: true,
        };
        let token = options.auth_token.as_ref();
        let token = token.map(|token| login(Who::Token, Some(token)));
        let single = options.user.as_ref().map(|name| {
            let who = Who::User(name.as_str().into());
            (name.clone(), login(who, options.password.as_ref()))
        });
        let hashes = users.values().chain(single.iter().map(|(_, login)| login));
        let decoy = hashes.map(|login| &login.secret).find(|it| it.is_hash());
        let decoy = decoy.cloned();
        let has_lists = !users.is_empty() || !nkeys.is_empty();
        let has_single = token.is_some() || single.is_some();
        let mut auth = Authenticator {
            nameless: Nameless::Nobody,
            required: has_lists || has_single || has_only_system_account(options),
            open: people.identity(GLOBAL, Who::Anyone, None),
            announced: options.no_auth_user.is_none(),
            decoy,
            mapping: None,
            accounts: Vec::new(),
            users,
            nkeys,
            token,
            single,
        };
        auth.nameless = match &options.no_auth_user {
            Some(name) if auth.users.contains_key(name) => Nameless::User(name.clone()),
            Some(key) if auth.nkeys.contains_key(key) => Nameless::Nkey(key.clone()),
            None if auth.has_only_system_users() => Nameless::Open,
            _ => Nameless::Nobody,
        };
        let maps = options.tls.as_ref().is_some_and(|tls| tls.verify_and_map);
        if maps && !auth.users.is_empty() {
            auth.mapping = Some(Mapping::new(auth.users.keys().map(String::as_str)));
        }
        auth.accounts = accounts;
        auth
    }

    /// The accounts, each in its place: the default one, the system account if there is one, all others.
    #[must_use]
    pub fn accounts(&self) -> &[AccountEntry] {
        &self.accounts
    }

    /// Their names and how many connections each may have: what a broker needs to know of them.
    pub fn names_and_limits(&self) -> impl Iterator<Item = (&str, Option<usize>)> {
        let accounts = self.accounts.iter();
        accounts.map(|it| (&*it.name, it.limits.max_connections))
    }

    /// Whether a client may have to prove who it is.
    #[must_use]
    pub fn is_required(&self) -> bool {
        self.required
    }

    /// Whether the first INFO says so. It does not where one can come in without.
    #[must_use]
    pub fn is_announced(&self) -> bool {
        self.announced && self.is_required()
    }

    /// Whether INFO has a nonce to sign.
    #[must_use]
    pub fn has_nkeys(&self) -> bool {
        !self.nkeys.is_empty()
    }

    /// Whether one can get in without credentials, and without CONNECT.
    #[must_use]
    pub fn takes_nameless(&self) -> bool {
        matches!(self.nameless, Nameless::Open | Nameless::User(_))
    }

    /// Whether a client is who its certificate says.
    #[must_use]
    pub fn maps_certificates(&self) -> bool {
        self.mapping.is_some()
    }

    /// Which user a certificate names; `None` where that does not count.
    #[must_use]
    pub fn map(&self, certificate: Option<&Certificate>) -> Option<Mapped> {
        let mapping = self.mapping.as_ref()?;
        let is_user = |name: &str| self.users.get(name).is_some_and(|it| it.takes_standard);
        Some(mapping.find(certificate, is_user))
    }

    /// Judges the credentials of a CONNECT. `nonce` is what INFO gave to sign; `certificate` is what the client has
    /// shown, verified.
    #[must_use]
    pub fn judge(
        &self,
        connect: &Connect,
        nonce: Option<&[u8]>,
        certificate: Option<&Certificate>,
    ) -> Verdict {
        if !self.is_required() {
            return Verdict::Accepted(Arc::clone(&self.open));
        }
        let nkey = connect
            .credentials()
            .nkey
            .as_deref()
            .filter(|_| self.has_nkeys());
        if let Some(key) = nkey {
            return match nonce {
                Some(nonce) => self.judge_key(key, connect.credentials().sig.as_deref(), nonce),
                // It came before there were keys, and had nothing to sign.
                None => Verdict::Refused(Some(Flaw::NotVerified)),
            };
        }
        let password = connect.credentials().pass.as_deref().unwrap_or_default();
        if let Some(mapped) = self.map(certificate) {
            return match mapped.user.and_then(|user| self.users.get(&user)) {
                Some(login) => self.judge_password(Some(login), password),
                None => Verdict::Refused(None),
            };
        }
        match (
            &connect.credentials().user,
            &connect.credentials().auth_token,
            &connect.credentials().pass,
        ) {
            (None, None, None) => {
                return match &self.nameless {
                    Nameless::Nkey(key) => self.admit(self.nkeys.get(key)),
                    _ => self.judge_nameless(),
                };
            }
            (Some(name), ..) if !self.users.is_empty() => {
                return self.judge_password(self.users.get(&**name), password);
            }
            _ => {}
        }
        if let Some(token) = &self.token {
            return match connect.credentials().auth_token.as_deref() {
                Some(given) => self.judge_password(Some(token), given),
                None => Verdict::Refused(None),
            };
        }
        let Some((name, login)) = &self.single else {
            return Verdict::Refused(None);
        };
        let is_it = connect.credentials().user.as_deref() == Some(name);
        self.judge_password(Some(login).filter(|_| is_it), password)
    }

    /// Judges a client whose first operation is not CONNECT.
    #[must_use]
    pub fn judge_nameless(&self) -> Verdict {
        if self.maps_certificates() {
            return Verdict::Refused(None);
        }
        match &self.nameless {
            Nameless::Open => Verdict::Accepted(Arc::clone(&self.open)),
            // Whoever's password is a hash cannot be logged in with the hash for a password.
            Nameless::User(name) => {
                self.admit(self.users.get(name).filter(|login| !login.secret.is_hash()))
            }
            Nameless::Nobody | Nameless::Nkey(_) => Verdict::Refused(None),
        }
    }

    /// Judges the credentials of another server: its certificate, where that is to say who it is, else those of the one
    /// user that a cluster may have.
    #[must_use]
    pub fn judge_route(
        &self,
        cluster: &Cluster,
        user: Option<&str>,
        password: &str,
        certificate: Option<&Certificate>,
    ) -> Verdict {
        let by_certificate =
            |tls: &&TlsConfig| tls.verify_and_map || tls.verify_cert_and_check_known_urls;
        if let Some(tls) = cluster.tls.as_ref().filter(by_certificate) {
            return match certificate.is_some_and(|it| certificate::is_peer(it, cluster, tls)) {
                true => Verdict::Accepted(Arc::clone(&self.open)),
                false => Verdict::Refused(None),
            };
        }
        let Some(name) = &cluster.user else {
            return Verdict::Accepted(Arc::clone(&self.open));
        };
        let secret = cluster.password.clone().unwrap_or_default();
        let is_it = user == Some(name);
        if secret.is_hash() {
            return Verdict::Verify(Box::new(Challenge {
                hash: secret,
                password: Secret::new(password),
                identity: is_it.then(|| Arc::clone(&self.open)),
            }));
        }
        match is_same(secret.reveal(), password) && is_it {
            true => Verdict::Accepted(Arc::clone(&self.open)),
            false => Verdict::Refused(None),
        }
    }

    fn judge_password(&self, login: Option<&Login>, password: &str) -> Verdict {
        let challenge = |hash: &Secret, identity| {
            Verdict::Verify(Box::new(Challenge {
                hash: hash.clone(),
                password: Secret::new(password),
                identity,
            }))
        };
        match login.filter(|login| login.takes_standard) {
            Some(login) if login.secret.is_hash() => {
                challenge(&login.secret, Some(Arc::clone(&login.identity)))
            }
            Some(login) if is_same(login.secret.reveal(), password) => {
                Verdict::Accepted(Arc::clone(&login.identity))
            }
            _ => match &self.decoy {
                Some(hash) => challenge(hash, None),
                None => Verdict::Refused(None),
            },
        }
    }

    fn judge_key(&self, key: &str, signature: Option<&str>, nonce: &[u8]) -> Verdict {
        let Some(login) = self.nkeys.get(key) else {
            return Verdict::Refused(None);
        };
        let Ok((nkey::Kind::User, public)) = nkey::decode(key) else {
            return Verdict::Refused(None);
        };
        match signature::verify(&public, signature.unwrap_or_default(), nonce) {
            Ok(()) => self.admit(Some(login)),
            Err(flaw) => Verdict::Refused(Some(flaw)),
        }
    }

    fn admit(&self, login: Option<&Login>) -> Verdict {
        match login.filter(|login| login.takes_standard) {
            Some(login) => Verdict::Accepted(Arc::clone(&login.identity)),
            None => Verdict::Refused(None),
        }
    }

    /// Users of the system account alone lock nobody out of the default one.
    fn has_only_system_users(&self) -> bool {
        let mut logins = self.users.values().chain(self.nkeys.values());
        let has_single = self.token.is_some() || self.single.is_some();
        !has_single && logins.all(|login| login.identity.is_system)
    }
}

/// Whether there is no account but the system account, which then is for those who prove that they may be there: whoever
/// gives credentials is not let in as anybody else.
fn has_only_system_account(options: &Options) -> bool {
    let system = options.system_account();
    let is_it = |name: &str| system == Some(name);
    matches!(options.accounts.as_slice(), [account] if is_it(&account.name))
}

/// Makes identities, and each set of permissions once.
struct People<'a> {
    accounts: &'a [AccountEntry],
    /// Where each account stands there, by name.
    places: HashMap<&'a str, u32>,
    compiled: Vec<(Arc<Permissions>, Arc<Rules>)>,
}

impl People<'_> {
    fn identity(
        &mut self,
        account: &str,
        who: Who,
        permissions: Option<&Arc<Permissions>>,
    ) -> Arc<Identity> {
        let rules = permissions.map(|permissions| self.rules(permissions));
        // Every account that users stand in has an entry; were there none, it would be one that nobody else is in.
        let index = self.places.get(account).copied().unwrap_or(u32::MAX);
        let entry = self.accounts.get(index as usize);
        Arc::new(Identity {
            who,
            account: index,
            account_name: entry.map_or_else(|| account.into(), |entry| Arc::clone(&entry.name)),
            is_system: entry.is_some_and(|entry| entry.is_system),
            rules,
            max_payload: entry.and_then(|entry| entry.limits.max_payload),
            max_subscriptions: entry.and_then(|entry| entry.limits.max_subscriptions),
        })
    }

    fn rules(&mut self, permissions: &Arc<Permissions>) -> Arc<Rules> {
        let same = |(known, _): &&(Arc<Permissions>, _)| Arc::ptr_eq(known, permissions);
        // Those who share permissions mostly stand together.
        if let Some((_, rules)) = self.compiled.iter().rev().find(same) {
            return Arc::clone(rules);
        }
        let rules = Arc::new(Rules::new(permissions));
        self.compiled
            .push((Arc::clone(permissions), Arc::clone(&rules)));
        rules
    }
}

/// Those that had a place keep it; new ones come behind.
fn account_entries(options: &Options, places: &[AccountEntry]) -> Vec<AccountEntry> {
    let system = options.system_account();
    let configured: HashMap<&str, &Account> = options
        .accounts
        .iter()
        .map(|account| (account.name.as_str(), account))
        .collect();
    let others = options.accounts.iter().map(|account| account.name.as_str());
    let others = others.filter(|&name| Some(name) != system);
    let names = [Some(GLOBAL), system].into_iter().flatten().chain(others);
    let placed: HashSet<&str> = places.iter().map(|entry| &*entry.name).collect();
    let kept = places.iter().map(|entry| &*entry.name);
    let entry = |name: &str| {
        let account = configured.get(name);
        AccountEntry {
            name: name.into(),
            limits: account
                .map(|account| account.limits.clone())
                .unwrap_or_default(),
            is_system: Some(name) == system,
            is_configured: account.is_some() || name == GLOBAL || Some(name) == system,
        }
    };
    let new = names.filter(|name| !placed.contains(name));
    kept.chain(new).map(entry).collect()
}

fn takes_standard(types: &[ConnectionType]) -> bool {
    types.is_empty() || types.contains(&ConnectionType::Standard)
}

/// Whether two texts are the same, in a time that depends on the length of `given` alone.
fn is_same(secret: &str, given: &str) -> bool {
    let (secret, given) = (secret.as_bytes(), given.as_bytes());
    let padded = secret.iter().chain(std::iter::repeat(&0));
    let difference = given
        .iter()
        .zip(padded)
        .fold(0, |sum, (a, b)| black_box(sum | (a ^ b)));
    black_box(difference) == 0 && secret.len() == given.len()
}

#[cfg(test)]
mod tests;
