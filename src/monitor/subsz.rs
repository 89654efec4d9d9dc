//! `/subsz`: subscriptions, and the figures of matching.

use super::Site;
use super::json::Json;
use super::request::SubszRequest;
use super::snapshot::{CacheFigures, SubscriptionSnapshot};

/// What `/subsz` counts.
#[derive(Clone, Copy, Debug, Default)]
pub struct SubszFigures {
    /// Subscriptions there are.
    pub subscriptions: usize,
    /// Subscriptions that ever came.
    pub inserts: u64,
    /// Subscriptions that went.
    pub removes: u64,
    /// Messages that were matched.
    pub matches: u64,
    /// The caches of all workers.
    pub cache: CacheFigures,
}

impl SubszFigures {
    /// The eight figures, as `/subsz` and `/accountz` have them.
    pub(super) fn write(&self, json: &mut Json) {
        let ratio = |part: u64, whole: u64| {
            if whole == 0 {
                0.0
            } else {
                part as f64 / whole as f64
            }
        };
        let hits = self.matches.saturating_sub(self.cache.misses);
        json.number("num_subscriptions", self.subscriptions);
        json.number("num_cache", self.cache.entries);
        json.number("num_inserts", self.inserts);
        json.number("num_removes", self.removes);
        json.number("num_matches", self.matches);
        json.number("cache_hit_rate", ratio(hits, self.matches));
        json.number("max_fanout", self.cache.max_fanout);
        json.number("avg_fanout", ratio(self.cache.fanout, self.cache.entries));
    }
}

/// The page: `total` subscriptions were found, `listed` are those on it.
pub fn subsz(
    site: &Site<'_>,
    request: &SubszRequest,
    figures: &SubszFigures,
    (total, listed): (usize, &[SubscriptionSnapshot]),
    json: &mut Json,
) {
    json.object(|json| {
        site.begin(json);
        figures.write(json);
        json.number("total", total);
        json.number("offset", request.paging.offset);
        json.number("limit", request.paging.limit);
        if !listed.is_empty() {
            json.array_at("subscriptions_list", |json| {
                for it in listed {
                    json.item(|json| subscription(it, true, json));
                }
            });
        }
    });
}

/// The field `subscriptions_list` of a connection, unless it has none.
pub(super) fn listed_subjects(listed: &[SubscriptionSnapshot], json: &mut Json) {
    if !listed.is_empty() {
        json.texts_at("subscriptions_list", listed.iter().map(|it| &it.subject));
    }
}

/// The field `subscriptions_list_detail` of a connection, unless it has none.
pub(super) fn listed_in_detail(
    listed: &[SubscriptionSnapshot],
    with_account: bool,
    json: &mut Json,
) {
    if !listed.is_empty() {
        json.array_at("subscriptions_list_detail", |json| {
            for it in listed {
                json.item(|json| subscription(it, with_account, json));
            }
        });
    }
}

fn subscription(it: &SubscriptionSnapshot, with_account: bool, json: &mut Json) {
    if with_account {
        json.text("account", &*it.account);
        json.text("account_tag", &*it.account);
    }
    json.text("subject", &it.subject);
    json.some_text("qgroup", &it.queue);
    json.text("sid", &it.sid);
    json.number("msgs", it.delivered);
    json.some_number("max", u64::from(it.max));
    json.number("cid", it.cid);
}
