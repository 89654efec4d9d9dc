//! What a survey finds while connections come and go.

use std::sync::Arc;

use super::*;
use crate::config::options::Options;
use crate::monitor::snapshot::Sort;
use crate::net::acceptor::{Acceptor, Listener};
use crate::net::monitor::MonitorListeners;
use crate::net::worker::tests::{adopted, worker};

/// Where answers go, and whom they would come to.
fn ticket(worker: &Worker) -> (Acceptor, Ticket) {
    let acceptor = Acceptor::new(
        Listener::bind("127.0.0.1", 0).expect("a port"),
        MonitorListeners::default(),
        Arc::clone(&worker.shared),
        Arc::clone(&worker.settings),
        64,
        None,
    );
    let (acceptor, control) = acceptor.expect("a control thread");
    let ticket = Ticket {
        control,
        job: 1,
        worker: 0,
    };
    (acceptor, ticket)
}

#[test]
fn what_was_found_of_a_connection_is_not_true_of_the_next_one_in_its_slot() {
    let mut worker = worker(Options::default());
    let (_first, conn, _) = adopted(&mut worker);
    worker.feed(conn, b"SUB a 1\r\n");
    let (_acceptor, ticket) = ticket(&worker);
    let selection = Selection {
        sort: Sort::default(),
        account: Some(0),
        cid: None,
        user: None,
        subject: Some("a".into()),
    };
    worker.survey(Question::Briefs(Arc::new(selection)), ticket);
    while matches!(worker.surveys[0].stage, Stage::Interested(_)) {
        worker.survey_step();
    }
    let is_found = |worker: &Worker| match &worker.surveys[0].stage {
        Stage::Briefs(_, Some(found)) => found.contains(conn),
        _ => false,
    };
    assert!(is_found(&worker));
    worker.connections[conn as usize].hung_up = true;
    worker.begin_closing(conn, CloseReason::ClientClosed);
    let (_second, next, _) = adopted(&mut worker);
    assert_eq!(next, conn);
    assert!(!is_found(&worker));
}

#[test]
fn whoever_leaves_during_a_census_has_its_traffic_in_it_once() {
    let mut worker = worker(Options::default());
    let clients: Vec<_> = (0..2).map(|_| adopted(&mut worker)).collect();
    for &(_, conn, _) in &clients {
        worker.feed(conn, b"SUB a 1\r\nPUB a 2\r\nhi\r\n");
        worker.connections[conn as usize].hung_up = true;
    }
    let (_acceptor, ticket) = ticket(&worker);
    worker.survey(Question::Census, ticket);
    let counted = |worker: &Worker| match &worker.surveys[0].stage {
        Stage::Census(census) => {
            let traffic = census.accounts.first().copied().unwrap_or_default();
            (traffic.received.msgs, traffic.sent.msgs)
        }
        _ => panic!("no census"),
    };
    assert_eq!(counted(&worker), (0, 0));
    // It has been where the first one is, and not where the second one is.
    let [first, second] = [0, 1].map(|at: usize| clients[at].1);
    worker.surveys[0].at = second as usize;
    worker.begin_closing(first, CloseReason::ClientClosed);
    assert_eq!(counted(&worker), (0, 0));
    worker.begin_closing(second, CloseReason::ClientClosed);
    assert_eq!(counted(&worker), (1, 1));
}
