//! What a survey finds while connections come and go.

use std::sync::Arc;

use super::*;
use crate::config::options::Options;
use crate::monitor::snapshot::Sort;
use crate::net::acceptor::{Acceptor, Listener};
use crate::net::monitor::MonitorListeners;
use crate::net::worker::tests::{adopted, worker};

#[test]
fn what_was_found_of_a_connection_is_not_true_of_the_next_one_in_its_slot() {
    let mut worker = worker(Options::default());
    let (_first, conn, _) = adopted(&mut worker);
    worker.feed(conn, b"SUB a 1\r\n");
    let acceptor = Acceptor::new(
        Listener::bind("127.0.0.1", 0).expect("a port"),
        MonitorListeners::default(),
        Arc::clone(&worker.shared),
        Arc::clone(&worker.settings),
        64,
        None,
    );
    let (_acceptor, control) = acceptor.expect("a control thread");
    let selection = Selection {
        sort: Sort::default(),
        account: Some(0),
        cid: None,
        user: None,
        subject: Some("a".into()),
    };
    let ticket = Ticket {
        control,
        job: 1,
        worker: 0,
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
