//! Subscribes, unsubscribes and looks up as the input says, with the definition of matching as the oracle.
//!
//! Each line of the input is an operation: `+ subject` and `q subject` subscribe (the latter in a queue group that the
//! subject's length chooses), `- number` ends a subscription, anything else is a subject to look up.

#![no_main]
#![forbid(unsafe_code)]

use std::collections::BTreeMap;

use libfuzzer_sys::fuzz_target;
use midge::broker::Broker;
use midge::subject;
use midge::sublist::{Cache, NodeId, SubRef};

/// Subscriptions at a time.
const STANDING_MAX: usize = 100;
/// Bytes of an input that are looked at: the oracle is slow.
const INPUT_MAX: usize = 4096;

struct Standing<'a> {
    subject: &'a [u8],
    queue: Option<&'static [u8]>,
    sub: SubRef,
    node: NodeId,
}

fuzz_target!(|input: &[u8]| {
    let input = input.get(..INPUT_MAX).unwrap_or(input);
    let broker = Broker::default();
    let account = broker.account(0).expect("there is one");
    let mut cache = Cache::default();
    let mut standing: Vec<Standing<'_>> = Vec::new();
    let mut scratch = Vec::new();
    for (slot, line) in (0..).zip(input.split(|&byte| byte == b'\n')) {
        match line {
            [b'+', b' ', subject @ ..] | [b'q', b' ', subject @ ..] => {
                if !subject::is_valid(subject) || standing.len() == STANDING_MAX {
                    continue;
                }
                let queue = (line[0] == b'q').then_some([&b"g"[..], b"h"][subject.len() % 2]);
                let worker = u16::from(line.last().is_some_and(|byte| byte % 2 == 1));
                let sub = SubRef {
                    worker,
                    slot,
                    serial: slot,
                };
                let node = account.subscribe(subject, queue, sub).node;
                scratch.clear();
                account
                    .trie
                    .read()
                    .expect("no panic")
                    .subject_of(node, &mut scratch);
                assert_eq!(scratch, subject);
                standing.push(Standing {
                    subject,
                    queue,
                    sub,
                    node,
                });
            }
            [b'-', b' ', number @ ..] => {
                let number = number.iter().fold(0_usize, |sum, &byte| {
                    sum.wrapping_mul(10).wrapping_add(usize::from(byte))
                });
                if !standing.is_empty() {
                    let gone = standing.swap_remove(number % standing.len());
                    account.unsubscribe(gone.node, gone.queue, gone.sub, &mut scratch);
                    assert_eq!(scratch, gone.subject);
                    // What is gone is not taken out twice.
                    assert!(
                        !account
                            .trie
                            .write()
                            .expect("no panic")
                            .remove(gone.node, gone.queue, gone.sub)
                    );
                }
            }
            subject => {
                let matches =
                    cache.find(account.index, subject, &account.trie, &account.generations);
                let found = matches.plain.clone();
                let groups = matches.groups().iter();
                let groups =
                    groups.map(|group| (group.name.clone(), sorted(group.members.clone())));
                let count = matches.groups().len();
                let groups: BTreeMap<_, _> = groups.collect();
                assert_eq!(count, groups.len(), "each group is there once");
                assert_eq!((found, groups), expected(&standing, subject));
            }
        }
        assert_eq!(account.trie.read().expect("no panic").len(), standing.len());
    }
    for gone in standing {
        account.unsubscribe(gone.node, gone.queue, gone.sub, &mut scratch);
    }
    assert!(account.trie.read().expect("no panic").is_empty());
});

/// Plain subscriptions, and the members of each group, that match by definition.
fn expected(
    standing: &[Standing<'_>],
    subject: &[u8],
) -> (Vec<SubRef>, BTreeMap<Vec<u8>, Vec<SubRef>>) {
    let mut plain = Vec::new();
    let mut groups: BTreeMap<Vec<u8>, Vec<SubRef>> = BTreeMap::new();
    for one in standing
        .iter()
        .filter(|one| subject::matches(one.subject, subject))
    {
        match one.queue {
            None => plain.push(one.sub),
            Some(name) => groups.entry(name.to_vec()).or_default().push(one.sub),
        }
    }
    groups
        .values_mut()
        .for_each(|members| members.sort_unstable());
    (sorted(plain), groups)
}

fn sorted(mut subs: Vec<SubRef>) -> Vec<SubRef> {
    subs.sort_unstable();
    subs
}
