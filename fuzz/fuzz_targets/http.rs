//! Reads arbitrary bytes as requests for monitoring pages, one behind the other, and answers what can be answered
//! without a server.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use midge::monitor::endpoint;
use midge::monitor::http::{HEAD_BYTES_MAX, Response, cleaned, parse};

fuzz_target!(|bytes: &[u8]| {
    let mut rest = bytes;
    loop {
        // Whatever part of it has come, a head is never read differently.
        let half = rest.get(..rest.len() / 2).unwrap_or_default();
        let early = parse(half);
        let read = parse(rest);
        if let Ok(Some((len, _))) = &early {
            assert!(matches!(&read, Ok(Some((whole, _))) if whole == len));
        }
        let (len, head) = match read {
            Ok(Some(read)) => read,
            Ok(None) => {
                assert!(rest.len() < HEAD_BYTES_MAX);
                return;
            }
            Err(error) => return encode(&error.response(), None),
        };
        assert!(len > 0 && len <= rest.len());
        let response = match cleaned(&head.path) {
            Some(path) => {
                assert!(cleaned(&path).is_none(), "{path:?}");
                Response::redirect(&path, &head.target)
            }
            None => match endpoint(&head.path, "").map(|it| it.request(&head.query)) {
                Some(Ok(_)) => Response::json(200, vec![b'x'; len]),
                Some(Err(error)) => Response::text(400, &error.text),
                None => Response::not_found(),
            },
        };
        encode(&response, Some(&head));
        rest = rest.get(len..).unwrap_or_default();
        let body = usize::try_from(head.body.unwrap_or(0)).unwrap_or(usize::MAX);
        rest = rest.get(body..).unwrap_or_default();
        if rest.is_empty() {
            return;
        }
    }
});

/// A response has one head, which nothing in a request can end early.
fn encode(response: &Response, head: Option<&midge::monitor::http::Head>) {
    let mut out = Vec::new();
    response.encode(head, true, "now", &mut out);
    let end = out
        .windows(4)
        .position(|it| it == b"\r\n\r\n")
        .expect("a head ends");
    let lines = out.get(..end).unwrap_or_default().split(|&it| it == b'\n');
    assert!(lines.count() <= 7);
}
