//! Lines of the log that operators and tools look for: the same in both servers.

mod support;

use support::{programs, start};

#[test]
fn what_a_client_gets_wrong_is_logged() {
    const CONNECT: &str = "CONNECT {\"verbose\":false,\"pedantic\":false,\"headers\":true}\r\n";
    for program in programs() {
        let mut server = start(&program, "");
        for (wire, line) in [
            (
                "FOO bar\r\n",
                r#"- Client parser ERROR, state=0, i=0: proto='"FOO bar\r"...'"#,
            ),
            (
                "PUB foo abc\r\n",
                r#"- processPub Bad or Missing Size: "foo abc""#,
            ),
            (
                "HPUB foo 9 5\r\n",
                r#"- processHeaderPub Header Size larger then TotalSize: "foo 9 5""#,
            ),
            ("SUB foo\r\n", r#"- processSub Parse Error: "foo""#),
            ("UNSUB a b c\r\n", r#"- processUnsub Parse Error: "a b c""#),
            ("CONNECT {\"name\":\r\n", "- unexpected end of JSON input"),
            ("INFO {\r\n", "- unexpected end of JSON input"),
            ("-ERR 'it\\'s off'\r\n", "- Client Error 'it"),
            ("CONNECT {\"protocol\":2}\r\n", "- invalid client protocol"),
            (
                "CONNECT {\"no_responders\":true,\"headers\":false}\r\n",
                "- no responders requires headers support",
            ),
        ] {
            let known = server.log().matches(line).count();
            let mut client = server.connect();
            client.expect_info();
            // The second number tells where in what was read: it is 0 at the start of that alone.
            if !wire.starts_with("FOO") {
                client.send(CONNECT.as_bytes());
            }
            client.send(wire.as_bytes());
            let found = server
                .process()
                .wait_for_log(|log| log.matches(line).count() > known);
            found.unwrap_or_else(|log| panic!("no {line:?} in {log}"));
        }
    }
}
