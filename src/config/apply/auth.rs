//! Users and permissions.

use std::sync::Arc;

use super::super::error::Position;
use super::super::nkey;
use super::super::options::{
    Cluster, ConnectionType, NkeyUser, Options, Permissions, ResponseRule, RoutePermissions,
    Secret, SubjectRules, User, broken_hash,
};
use super::super::report::{Report, set};
use super::super::subjects;
use super::super::table::{self, Block};
use super::super::value::{Data, Entry, Map};
use super::{Seen, non_empty, unless_zero};
use crate::limits;

/// What an `authorization` block says, whosever it is.
#[derive(Default)]
struct Authorization {
    user: Option<String>,
    password: Option<Secret>,
    token: Option<Secret>,
    timeout: Option<std::time::Duration>,
    has_users: bool,
    users: Users,
    permissions: Option<Arc<Permissions>>,
}

/// Users as they come, with and without keys.
#[derive(Default)]
pub(super) struct Users {
    pub(super) users: Vec<User>,
    pub(super) nkeys: Vec<NkeyUser>,
}

/// The `authorization` block of clients.
pub(super) fn authorization(
    report: &mut Report,
    entry: &Entry,
    options: &mut Options,
    seen: &mut Seen,
) {
    let Some(map) = report.map(entry) else {
        return;
    };
    let mut auth = read(report, map, seen);
    if auth.token.is_some() && (auth.user.is_some() || auth.password.is_some()) {
        report.error(&entry.at, "Cannot have a user/pass and token");
    }
    if auth.has_users && auth.user.is_some() {
        report.error(
            &entry.at,
            "Can not have a single user/pass and a users array",
        );
    }
    if auth.has_users && auth.token.is_some() {
        report.error(&entry.at, "Can not have a token and a users array");
    }
    let is_single = auth.user.is_some() || auth.token.is_some();
    let is_default = |entry: &&Entry| {
        let known = table::find(Block::Authorization, &entry.key);
        known.is_some_and(|it| it.name == "default_permissions")
    };
    if let Some(entry) = map
        .entries
        .iter()
        .rfind(is_default)
        .filter(|_| is_single && !auth.has_users)
    {
        let text = "they hold for those in users alone: the single user, and who has the token, may do everything";
        report.warn(entry, text);
    }
    auth.users.default_permissions(auth.permissions.as_ref());
    options.user = auth.user;
    options.password = auth.password;
    options.auth_token = auth.token;
    options.users = auth.users.users;
    options.nkeys = auth.users.nkeys;
    if let Some(timeout) = auth.timeout {
        options.auth_timeout = timeout;
        options.auth_timeout_is_set = true;
    }
}

/// The `authorization` block of a cluster. Gives the permissions that used to stand there.
pub(super) fn cluster_authorization(
    report: &mut Report,
    entry: &Entry,
    cluster: &mut Cluster,
) -> Option<RoutePermissions> {
    let map = report.map(entry)?;
    let auth = read(report, map, &mut Seen::default());
    if auth.has_users {
        report.error(
            &entry.at,
            "Cluster authorization does not allow multiple users",
        );
    }
    if auth.token.is_some() {
        report.error(&entry.at, "Cluster authorization does not support tokens");
    }
    cluster.user = auth.user;
    cluster.password = auth.password;
    cluster.auth_timeout = auth.timeout;
    let permissions = auth.permissions?;
    report.warn(
        entry,
        "setting \"permissions\" within cluster authorization block is deprecated",
    );
    if permissions.allow_responses.is_some() {
        report.error(
            &entry.at,
            "Cluster permissions do not support dynamic responses",
        );
    }
    Some(RoutePermissions {
        import: permissions.publish.clone(),
        export: permissions.subscribe.clone(),
    })
}

fn read(report: &mut Report, map: &Map, seen: &mut Seen) -> Authorization {
    let mut auth = Authorization::default();
    report.each(
        Block::Authorization,
        map,
        |report, name, entry| match name {
            // An empty text is none: variables of the environment may be empty.
            "user" => auth.user = non_empty(report, entry),
            "password" => auth.password = secret(report, entry, "the password"),
            "token" => auth.token = secret(report, entry, "the token"),
            "timeout" => auth.timeout = unless_zero(report.seconds(entry)),
            "users" => {
                auth.has_users = true;
                auth.users = users(report, entry, seen);
            }
            "default_permissions" => auth.permissions = permissions(report, entry).map(Arc::new),
            _ => debug_assert!(false, "nothing takes the option {name}"),
        },
    );
    auth
}

/// A secret that stands alone.
fn secret(report: &mut Report, entry: &Entry, whose: &str) -> Option<Secret> {
    let secret = non_empty(report, entry).map(Secret::new);
    if secret.as_ref().is_some_and(Secret::is_broken_hash) {
        report.error(&entry.at, broken_hash(whose));
    }
    secret
}

impl Users {
    /// Gives the permissions to who has none.
    pub(super) fn default_permissions(&mut self, permissions: Option<&Arc<Permissions>>) {
        let of_users = self.users.iter_mut().map(|user| &mut user.permissions);
        let of_nkeys = self.nkeys.iter_mut().map(|nkey| &mut nkey.permissions);
        for own in of_users.chain(of_nkeys).filter(|own| own.is_none()) {
            *own = permissions.map(Arc::clone);
        }
    }
}

/// A `users` array, of which none may be in `seen`.
pub(super) fn users(report: &mut Report, entry: &Entry, seen: &mut Seen) -> Users {
    let mut users = Users::default();
    for (map, at) in report.maps(entry) {
        let (mut user, mut password, mut nkey) = (None, None, None);
        let mut permissions = None;
        let mut allowed_connection_types = Vec::new();
        report.each(Block::User, map, |report, name, entry| match name {
            "user" => user = report.text(entry),
            "password" => password = report.text(entry),
            "nkey" => nkey = report.text(entry),
            "permissions" => permissions = self::permissions(report, entry).map(Arc::new),
            "allowed_connection_types" => {
                allowed_connection_types = connection_types(report, entry)
            }
            _ => debug_assert!(false, "nothing takes the option {name}"),
        });
        match (user, nkey) {
            (None, None) => report.error(at, "User entry requires a user"),
            (Some(_), Some(_)) => report.error(at, "Nkey users do not take usernames or passwords"),
            (None, Some(_)) if password.is_some() => {
                report.error(at, "Nkey users do not take usernames or passwords");
            }
            (None, Some(nkey)) => {
                if !nkey::is_public(&nkey, nkey::Kind::User) {
                    report.error(at, "Not a valid public nkey for a user");
                } else if !seen.nkeys.insert(nkey.clone()) {
                    report.error(at, format!("Duplicate nkey \"{nkey}\" detected"));
                }
                users.nkeys.push(NkeyUser {
                    nkey,
                    permissions,
                    allowed_connection_types,
                });
            }
            (Some(user), None) => {
                if user.is_empty() {
                    report.error(at, "User entry requires a user");
                } else if !seen.users.insert(user.clone()) {
                    report.error(at, format!("Duplicate user \"{user}\" detected"));
                }
                let password = Secret::new(password.unwrap_or_default());
                if password.is_broken_hash() {
                    report.error(at, broken_hash(&format!("user \"{user}\"")));
                }
                users.users.push(User {
                    user,
                    password,
                    permissions,
                    allowed_connection_types,
                });
            }
        }
    }
    users
}

fn connection_types(report: &mut Report, entry: &Entry) -> Vec<ConnectionType> {
    let mut types = Vec::new();
    for (text, at) in report.text_or_texts(entry).unwrap_or_default() {
        match ConnectionType::NAMES
            .iter()
            .find(|(name, _)| text.eq_ignore_ascii_case(name))
        {
            Some((_, kind)) => types.push(*kind),
            None => report.error(
                at,
                format!(
                    "invalid connection types [\"{}\"]",
                    text.to_ascii_uppercase()
                ),
            ),
        }
    }
    types
}

/// A `permissions` block.
pub(super) fn permissions(report: &mut Report, entry: &Entry) -> Option<Permissions> {
    let Data::Map(map) = &entry.value.data else {
        report.error(
            &entry.at,
            format!(
                "Expected permissions to be a map/struct, got {}",
                entry.value.kind()
            ),
        );
        return None;
    };
    let mut permissions = Permissions::default();
    report.each(Block::Permissions, map, |report, name, entry| match name {
        "publish" => permissions.publish = rules(report, entry, is_publish_rule),
        "subscribe" => permissions.subscribe = rules(report, entry, is_subscribe_rule),
        "allow_responses" => permissions.allow_responses = responses(report, entry),
        _ => debug_assert!(false, "nothing takes the option {name}"),
    });
    if permissions.allow_responses.is_some() && permissions.publish.allow.is_none() {
        // Who may answer may not publish whatever else.
        permissions.publish.allow = Some(Vec::new());
    }
    Some(permissions)
}

/// Subjects to allow, or a map of those to allow and to deny. An empty list of either is as none.
fn rules(report: &mut Report, entry: &Entry, is_rule: fn(&str) -> bool) -> SubjectRules {
    let mut rules = SubjectRules::default();
    match &entry.value.data {
        Data::Map(map) => report.each(Block::Subjects, map, |report, name, entry| match name {
            "allow" => rules.allow = Some(subject_list(report, entry, is_rule)),
            _ => rules.deny = subject_list(report, entry, is_rule),
        }),
        _ => rules.allow = Some(subject_list(report, entry, is_rule)),
    }
    rules.allow = rules.allow.filter(|subjects| !subjects.is_empty());
    rules
}

fn subject_list(report: &mut Report, entry: &Entry, is_rule: fn(&str) -> bool) -> Vec<String> {
    let texts = match &entry.value.data {
        Data::String(text) => vec![(&**text, &entry.value.at)],
        Data::Array(_) => report.texts(entry).unwrap_or_default(),
        _ => {
            let kind = entry.value.kind();
            let text = format!(
                "Expected subject permissions to be a subject, or array of subjects, got {kind}"
            );
            report.error(&entry.at, text);
            Vec::new()
        }
    };
    let mut subjects = Vec::with_capacity(texts.len());
    for (text, at) in texts {
        if is_rule(text) {
            subjects.push(text.into());
        } else {
            invalid_subject(report, at, text);
        }
    }
    subjects
}

pub(super) fn invalid_subject(report: &mut Report, at: &Position, subject: &str) {
    report.error(at, format!("subject \"{subject}\" is not a valid subject"));
}

fn is_publish_rule(text: &str) -> bool {
    subjects::is_valid(text)
}

/// `subject` or `subject queue`.
fn is_subscribe_rule(text: &str) -> bool {
    let mut parts = text.split_ascii_whitespace();
    let (subject, queue) = (parts.next(), parts.next());
    subject.is_some_and(subjects::is_valid)
        && queue.is_none_or(subjects::is_valid)
        && parts.next().is_none()
}

fn responses(report: &mut Report, entry: &Entry) -> Option<ResponseRule> {
    let mut rule = ResponseRule {
        max: Some(limits::RESPONSES_MAX),
        expires: Some(limits::RESPONSES_EXPIRE),
    };
    let map = match &entry.value.data {
        Data::Bool(is_allowed) => return is_allowed.then_some(rule),
        Data::Map(map) => map,
        _ => {
            report.error(
                &entry.at,
                "error parsing response permissions, expected a boolean or a map",
            );
            return None;
        }
    };
    report.each(Block::Responses, map, |report, name, entry| match name {
        "max" => match report.integer(entry) {
            Some(number) if number < 0 => rule.max = None,
            Some(number) if number > 0 => set(&mut rule.max, report.number(entry).map(Some)),
            _ => {}
        },
        _ => match report.signed_duration(entry) {
            Some(value) if value.is_negative => rule.expires = None,
            Some(value) if !value.length.is_zero() => rule.expires = Some(value.length),
            _ => {}
        },
    });
    Some(rule)
}
