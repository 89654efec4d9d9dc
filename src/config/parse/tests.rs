//! The language, case by case.

use std::collections::HashMap;
use std::io;

use super::super::outside::Nothing;
use super::*;

/// Files and variables in memory.
#[derive(Default)]
struct Fake {
    files: HashMap<&'static str, &'static str>,
    variables: HashMap<&'static str, &'static str>,
}

impl Outside for Fake {
    fn variable(&self, name: &str) -> Option<String> {
        self.variables.get(name).map(|it| it.to_string())
    }

    fn read(&self, path: &Path) -> io::Result<Vec<u8>> {
        let text = path.to_str().and_then(|it| self.files.get(it));
        text.map(|it| it.as_bytes().to_vec())
            .ok_or_else(|| io::ErrorKind::NotFound.into())
    }
}

fn parsed(text: &str) -> Parsed {
    parse("c.conf", text.as_bytes(), &Nothing)
}

/// The tree in a short notation: `{a:1,b:"x"}`.
fn shown(text: &str) -> String {
    let parsed = parsed(text);
    assert_eq!(parsed.errors, [], "{text}");
    map_shown(&parsed.map)
}

fn map_shown(map: &Map) -> String {
    let entries: Vec<_> = map
        .entries
        .iter()
        .map(|it| format!("{}:{}", it.key, value_shown(&it.value)))
        .collect();
    format!("{{{}}}", entries.join(","))
}

fn value_shown(value: &Value) -> String {
    match &value.data {
        Data::String(text) => format!("{text:?}"),
        Data::Integer(number) => number.to_string(),
        Data::Float(number) => format!("{number:?}"),
        Data::Bool(flag) => flag.to_string(),
        Data::DateTime(text) => format!("@{text}"),
        Data::Array(array) => {
            let items: Vec<_> = array.items.iter().map(value_shown).collect();
            format!("[{}]", items.join(","))
        }
        Data::Map(map) => map_shown(map),
    }
}

fn errors(text: &str) -> Vec<String> {
    parsed(text)
        .errors
        .iter()
        .map(ToString::to_string)
        .collect()
}

/// What `v` is in `v = <text>`.
fn scalar(text: &str) -> String {
    let whole = shown(&format!("v = {text}\n"));
    whole.trim_start_matches("{v:").trim_end_matches('}').into()
}

#[test]
fn separators_and_terminators_are_interchangeable() {
    for text in [
        "port=16001",
        "port:16001",
        "port 16001",
        "port\t16001",
        "port\n16001",
        "port\n= 16001",
        "port : 16001;",
    ] {
        assert_eq!(shown(text), "{port:16001}", "{text}");
    }
    assert_eq!(
        shown("port = 16001;host=127.0.0.1"),
        "{port:16001,host:\"127.0.0.1\"}"
    );
    assert_eq!(
        shown("port = 1, host = a\r\nx = b\r\n"),
        "{port:1,host:\"a\",x:\"b\"}"
    );
    assert_eq!(shown("port==1"), "{port:\"=1\"}");
    assert_eq!(shown("key:"), "{key:\"\"}");
    assert_eq!(shown("'a b' 1; \"c\\d\" 2"), "{a b:1,c\\d:2}");
}

#[test]
fn comments_stand_where_keys_elements_and_ends_do() {
    assert_eq!(
        shown("# a\n// b\nport: 1 # c\nhost: a#b // d\n"),
        "{port:1,host:\"a#b\"}"
    );
    assert_eq!(shown("a [\n # x\n 1, // y\n 2 # z\n]"), "{a:[1,2]}");
    assert_eq!(shown("url: http://x"), "{url:\"http://x\"}");
    assert_eq!(shown("a: 127.0.0.1#c"), "{a:\"127.0.0.1\"}");
    assert_eq!(shown("a: \"x\"#c"), "{a:\"x\"}");
    assert_eq!(errors("port = # c").len(), 1);
}

#[test]
fn braces_around_the_whole_file_are_optional() {
    assert_eq!(
        shown("{ \"port\": 16001, \"host\": \"127.0.0.1\" }"),
        "{port:16001,host:\"127.0.0.1\"}"
    );
    assert_eq!(shown("{{port: 1}}"), "{port:1}");
    assert_eq!(shown("{port: 1} {host: a}"), "{port:1,host:\"a\"}");
    assert_eq!(shown("port: 4222}\n# end\n"), "{port:4222}");
    assert_eq!(shown("}"), "{}");
    assert_eq!(
        errors("port: 1}}"),
        ["c.conf:1:7: Unexpected '}': no map is open here"]
    );
    assert_eq!(errors("port: 1}\nhost: a").len(), 1);
    assert_eq!(errors("{\nport: 1\n").len(), 1);
    assert_eq!(shown("{\"a\":\n {\"b\":\n [1,\n 2]}}"), "{a:{b:[1,2]}}");
}

#[test]
fn maps_nest_and_the_last_of_equal_keys_wins() {
    assert_eq!(
        shown("a {b: 1, c {d: 2}}\ne = {}"),
        "{a:{b:1,c:{d:2}},e:{}}"
    );
    assert_eq!(shown("a {\n b:\n 1\n c\n=2 }"), "{a:{b:1,c:2}}");
    assert_eq!(shown("{a:1;b:2}"), "{a:1,b:2}");
    assert_eq!(shown("m {a 1\n b=2}"), "{m:{a:1,b:2}}");
    assert_eq!(shown("a: 1\nb: 2\na: {c: 3}"), "{b:2,a:{c:3}}");
    assert_eq!(shown("a: 1\nA: 2"), "{a:1,A:2}");
    assert_eq!(shown("cluster{port: 1}"), "{cluster{port:1}");
}

#[test]
fn arrays_take_commas_or_lines() {
    assert_eq!(shown("a [1,2,3]"), "{a:[1,2,3]}");
    assert_eq!(
        shown("a [1k, -8k, 1.5, yes, [x], {a: 1}]"),
        "{a:[1000,-8000,1.5,true,[\"x\"],{a:1}]}"
    );
    assert_eq!(shown("a = [\"a\",\"b\",]"), "{a:[\"a\",\"b\"]}");
    assert_eq!(
        shown("a = [\n nats-route://u:p@h:1\n nats-route://u:p@h:2\n]"),
        "{a:[\"nats-route://u:p@h:1\",\"nats-route://u:p@h:2\"]}"
    );
    assert_eq!(shown("a = [foo.>, bar.*]"), "{a:[\"foo.>\",\"bar.*\"]}");
    assert_eq!(shown("a = []"), "{a:[]}");
    assert_eq!(shown("a = [/x/y, z]"), "{a:[\"/x/y\",\"z\"]}");
    for text in [
        "[,a]", "[a,,b]", "[a\n,b]", "[a b]", "[a;b]", "[a", "[\"a\"", "[a,",
    ] {
        assert_eq!(errors(&format!("v: {text}")).len(), 1, "{text}");
    }
}

#[test]
fn scalars_have_the_types_their_spelling_gives() {
    let cases = [
        ("8k", "8000"),
        ("8KB", "8192"),
        ("8KiB", "8192"),
        ("8ki", "8192"),
        ("2m", "2000000"),
        ("2Mb", "2097152"),
        ("1g", "1000000000"),
        ("1gib", "1073741824"),
        ("1t", "1000000000000"),
        ("1eb", "1152921504606846976"),
        ("007", "7"),
        ("-8k", "-8000"),
        ("-1", "-1"),
        ("9223372036854775807", "9223372036854775807"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("22.50", "22.5"),
        ("-22.2", "-22.2"),
        ("TRUE", "true"),
        ("Yes", "true"),
        ("on", "true"),
        ("off", "false"),
        ("no", "false"),
        ("\"true\"", "\"true\""),
        ("enabled", "\"enabled\""),
        ("t", "\"t\""),
        ("1kx", "\"1kx\""),
        ("1k1", "\"1k1\""),
        ("1m30s", "\"1m30s\""),
        ("1ib", "\"1ib\""),
        ("1KBB", "\"1KBB\""),
        ("1kbi", "\"1kbi\""),
        ("4222abc", "\"4222abc\""),
        ("0x10", "\"0x10\""),
        ("1_000", "\"1_000\""),
        ("3com", "\"3com\""),
        ("127.0.0.1:4222", "\"127.0.0.1:4222\""),
        ("1.2.3", "\"1.2.3\""),
        ("::1", "\"::1\""),
        ("fe80::1%lo", "\"fe80::1%lo\""),
        ("2016-05-04T18:53:41Z", "@2016-05-04T18:53:41Z"),
        ("a'", "\"a\""),
        ("a\"b\"", "\"a\\\"b\\\"\""),
        ("\"foo\\tbar\"", "\"foo\\tbar\""),
        ("'foo\\tbar'", "\"foo\\\\tbar\""),
        ("foo\\tbar", "\"foo\\tbar\""),
        ("\"\\x41\\x42\"", "\"AB\""),
        ("\"\\xc3\\xa4\"", "\"\u{e4}\""),
        ("\"a\nb\"", "\"a\\nb\""),
        ("'a\nb'", "\"a\\nb\""),
        (
            "$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG",
            "\"$2a$11$W2zko751KUvVy59mUTWmpOdWjpEm5qhcCZRd05GjI/sSOT.xtiHyG\"",
        ),
        ("pre$X", "\"pre$X\""),
        ("\"$X\"", "\"$X\""),
        ("null", "\"null\""),
        ("500ms", "\"500ms\""),
        ("(\nab\n c)\n)", "\"\\nab\\n c)\\n\""),
        ("(\r\nab\r\n)\r", "\"\\r\\nab\\r\\n\""),
    ];
    for (text, expected) in cases {
        assert_eq!(scalar(text), expected, "{text}");
    }
}

#[test]
fn errors_name_place_and_reason() {
    let cases = [
        (
            "port=16001 host=127.0.0.1",
            "1:11: Expected a top-level value to end with a new line, comment or EOF, but got 'h' instead.",
        ),
        ("=16001", "1:0: Unexpected key separator '='"),
        ("port", "1:4: config is invalid: key \"port\" has no value"),
        ("port =\n16001", "1:6: Expected value but found new line"),
        (
            "a: 9223372036854775808",
            "1:3: an integer is out of the range of 64 bits; as a text it needs quotes",
        ),
        (
            "a: 16eb",
            "1:3: an integer is out of the range of 64 bits; as a text it needs quotes",
        ),
        ("\na: .5", "2:4: Floats must start with a digit"),
        ("a: -.5", "1:4: Floats must start with a digit, not '.'."),
        (
            "a: 1.x",
            "1:5: Floats must have a digit after the '.', but got 'x' instead.",
        ),
        (
            "a: 1.5k",
            "1:6: Expected a top-level value to end with a new line, comment or EOF, but got 'k' instead.",
        ),
        (
            "a: 1.2.3a",
            "1:8: Expected a top-level value to end with a new line, comment or EOF, but got 'a' instead.",
        ),
        ("a: -a", "1:4: Expected a digit but got 'a'."),
        (
            "a: \"\\xzz\"",
            "1:6: Expected two hexadecimal digits after '\\x', but got 'zz'",
        ),
        (
            "a: \"\\u0041\"",
            "1:5: Invalid escape character 'u'. Only the following escape characters are allowed: \\xXX, \\t, \\n, \\r, \\\", \\\\.",
        ),
        (
            "a: \"abc",
            "1:7: Unexpected EOF in a string, which begins at 1:4.",
        ),
        (
            "m {a: foo bar}",
            "1:10: Expected a map value terminator \",\" or a map terminator \"}\", but got 'b' instead.",
        ),
        (
            "a: [a b]",
            "1:6: Expected an array value terminator \",\" or an array terminator \"]\", but got 'b' instead.",
        ),
        (
            "a: [1",
            "1:5: Unexpected EOF processing array, which begins at 1:3.",
        ),
        (
            "m {\n  a: \"b\n}\nport: 1\n",
            "5:1: Unexpected EOF in a string, which begins at 2:7.",
        ),
        ("a: [1,,2]", "1:6: Unexpected array value terminator ','."),
        (
            "m {a:1 b:2}",
            "1:7: Expected a map value terminator \",\" or a map terminator \"}\", but got 'b' instead.",
        ),
        ("m {:1}", "1:3: Unexpected key separator ':'"),
        (
            "m {a:1",
            "1:6: Unexpected EOF processing map, which begins at 1:2.",
        ),
        (
            "cluster {\n]\n}",
            "2:1: Unexpected array end ']' processing map.",
        ),
        (
            "a: 2016-13-04T18:53:41Z",
            "1:3: expected Zulu formatted DateTime, but got '2016-13-04T18:53:41Z'",
        ),
        (
            "a: 123-4",
            "1:6: All ISO8601 dates must be in full Zulu form.",
        ),
        (
            "a: 2016-05-04T18:53:41+01:00",
            "1:22: Expected 'Z' in ISO8601 datetime, but found '+' instead.",
        ),
        (
            "a: (\nab",
            "2:3: Unexpected EOF processing block, which begins at 1:4.",
        ),
        (
            "/ c",
            "1:0: Expected a key but found '/': a comment starts with '//' or '#'",
        ),
        (
            "{ \"port\": 1",
            "1:11: Expected a block-level value to end with a new line, comment or EOF, but got end of file before '}'",
        ),
        (
            "listen: [::1]:16001",
            "1:13: Expected a top-level value to end with a new line, comment or EOF, but got ':' instead.",
        ),
        ("m {a: }", "1:6: Expected a value for \"a\" but found '}'"),
        ("m {a:1,,b:2}", "1:7: Expected a key but found ','"),
        (
            "a: don't",
            "1:7: Expected a top-level value to end with a new line, comment or EOF, but got 't' instead.",
        ),
        (
            "a: $X",
            "1:3: variable reference for 'X' on line 1 can not be found",
        ),
        (
            "a: 1\u{0}\nb: 2",
            "1:4: NUL byte with text after it, which would not be read",
        ),
        (
            "a: \u{e4} \u{f6}",
            "1:6: Expected a top-level value to end with a new line, comment or EOF, but got '\u{f6}' instead.",
        ),
    ];
    for (text, expected) in cases {
        assert_eq!(errors(text), [format!("c.conf:{expected}")], "{text}");
    }
}

#[test]
fn a_text_without_an_end_is_told_of_beside_other_errors() {
    for (text, unclosed) in [
        (
            "a: -x\nm {\n b: \"c\n}\n",
            "c.conf:5:1: Unexpected EOF in a string, which begins at 3:6.",
        ),
        (
            "a: -x\nb: (\nc",
            "c.conf:3:2: Unexpected EOF processing block, which begins at 2:5.",
        ),
    ] {
        let number = "c.conf:1:4: Expected a digit but got 'x'.";
        assert_eq!(errors(text), [number, unclosed], "{text}");
    }
}

#[test]
fn one_error_does_not_hide_the_next() {
    let text = "port=1 x\nhost: a\nm {\n a: .5\n b: [1,,2]\n c: 1 2\n}\nport: -x\nlast: 1\n";
    let lines: Vec<_> = parsed(text)
        .errors
        .iter()
        .filter_map(|it| it.at.as_ref().map(|at| at.line))
        .collect();
    assert_eq!(lines, [1, 4, 5, 6, 8]);
    let keys: Vec<_> = parsed(text)
        .map
        .entries
        .iter()
        .map(|it| it.key.to_string())
        .collect();
    assert_eq!(keys, ["port", "host", "m", "last"]);
    let many = "=\n".repeat(10_000);
    assert_eq!(parsed(&many).errors.len(), limits::CONFIG_ERRORS_MAX + 1);
}

#[test]
fn variables_are_found_in_this_map_and_those_around_it() {
    assert_eq!(shown("A: 1\nb: $A"), "{A:1,b:1}");
    assert_eq!(
        shown("A: [1, 2]\nm {n {v: $A}}"),
        "{A:[1,2],m:{n:{v:[1,2]}}}"
    );
    assert_eq!(
        shown("A: 1\nm {A: 2\n l [{v: $A}]}\nw: $A"),
        "{A:1,m:{A:2,l:[{v:2}]},w:1}"
    );
    assert_eq!(
        shown("A: {x: 1}\nB: $A\nc: $B"),
        "{A:{x:1},B:{x:1},c:{x:1}}"
    );
    assert_eq!(shown("pass: x\nv: $PASS"), "{pass:\"x\",v:\"x\"}");
    assert_eq!(errors("m {A: 1}\nv: $A").len(), 1);
    assert_eq!(errors("v: $A\nA: 1").len(), 1);
}

#[test]
fn a_key_knows_whether_a_variable_used_it() {
    let map = parsed("A: 1\nB: 2\nc: $A\na: 3").map;
    let used: Vec<_> = map.entries.iter().map(|it| it.used).collect();
    assert_eq!(used, [true, false, false, false]);
}

#[test]
fn the_environment_comes_last() {
    let variables = [
        ("P", "16k"),
        ("Y", " yes # c"),
        ("Q", "\"a b\""),
        ("R", "$P"),
        ("A", "$B"),
        ("B", "$A"),
        ("S", "a b"),
        ("E", ""),
        ("L", "[1, 2]"),
        ("X", "7"),
    ];
    let outside = Fake {
        variables: HashMap::from(variables),
        ..Fake::default()
    };
    let value = |text: &str| {
        let Parsed { map, errors } = parse("c.conf", text.as_bytes(), &outside);
        errors
            .first()
            .map_or_else(|| map_shown(&map), ToString::to_string)
    };
    assert_eq!(value("v: $P"), "{v:16000}");
    assert_eq!(value("P: 1\nv: $P"), "{P:1,v:1}");
    assert_eq!(
        value("v: [$Y, $Q, $R, $E, $L]"),
        "{v:[true,\"a b\",16000,\"\",[1,2]]}"
    );
    assert_eq!(value("X: $X"), "{X:7}");
    let wrapped = |name: &str, inner: &str| {
        format!("variable reference for '{name}' on line 1 could not be parsed: {inner}")
    };
    let cycle = wrapped(
        "A",
        &wrapped("B", &wrapped("A", "variable reference cycle for 'A'")),
    );
    assert_eq!(value("v: $A"), format!("c.conf:1:3: {cycle}"));
    let inner =
        "Expected a top-level value to end with a new line, comment or EOF, but got 'b' instead.";
    assert_eq!(
        value("v: $S"),
        format!("c.conf:1:3: {}", wrapped("S", inner))
    );
}

#[test]
fn includes_merge_into_the_map_they_stand_in() {
    let files = [
        ("dir/users.conf", "A: 1\nport: 2\ninclude sub/more.conf"),
        ("dir/sub/more.conf", "more: {x: 1}"),
        ("dir/loop.conf", "include './loop.conf'"),
        ("dir/bad.conf", "a: 1\nb = = c d\n"),
        ("dir/needy.conf", "v: $OUTER"),
    ];
    let outside = Fake {
        files: HashMap::from(files),
        ..Fake::default()
    };
    let value = |text: &str| {
        let Parsed { map, errors } = parse("dir/c.conf", text.as_bytes(), &outside);
        errors
            .first()
            .map_or_else(|| map_shown(&map), ToString::to_string)
    };
    assert_eq!(
        value("port: 1\ninclude users.conf\nv: $A"),
        "{A:1,port:2,more:{x:1},v:1}"
    );
    assert_eq!(
        value("m { INCLUDE \"/sub/more.conf\" }"),
        "{m:{more:{x:1}}}"
    );
    assert_eq!(
        value("include 'sub/../sub/more.conf'; x: 1"),
        "{more:{x:1},x:1}"
    );
    assert_eq!(value("'include' 1"), "{include:1}");
    assert_eq!(value("include: x"), "{include:\"x\"}");
    let missing =
        "error parsing include file 'no.conf', open dir/no.conf: no such file or directory";
    assert_eq!(
        value("include no.conf"),
        format!("dir/c.conf:1:8: {missing}")
    );
    assert_eq!(
        value("include loop.conf"),
        "dir/loop.conf:1:8: error parsing include file './loop.conf', dir/loop.conf includes itself"
    );
    assert!(value("include bad.conf").starts_with("dir/bad.conf:2:7: Expected a top-level value"));
    assert!(
        value("OUTER: 1\ninclude needy.conf").starts_with("dir/needy.conf:1:3: variable reference")
    );
    let starts = [
        ("[", "start of an array"),
        ("{", "start of a map"),
        ("(", "start of a block"),
        ("1", "start of a number"),
        ("\\", "escape sequence"),
        ("\n", "new line"),
    ];
    for (text, found) in starts {
        // White space before the path includes line ends only for ordinary keys.
        assert!(
            value(&format!("include {text}"))
                .ends_with(&format!("Expected include value but found {found}")),
            "{text}"
        );
    }
    assert!(value("include 'x").ends_with("Unexpected EOF in quoted include"));
    assert!(value("include \"x").ends_with("Unexpected EOF in double quoted include"));
}

#[test]
fn nesting_is_bounded_even_through_variables() {
    let deep = |levels: usize| format!("a: {}{}", "[".repeat(levels), "]".repeat(levels));
    assert_eq!(errors(&deep(limits::CONFIG_DEPTH_MAX)), [""; 0]);
    assert_eq!(errors(&deep(limits::CONFIG_DEPTH_MAX + 1)).len(), 1);
    assert_eq!(errors(&deep(1_000_000)).len(), 1);
    assert_eq!(errors(&"{".repeat(100_000)).len(), 1);
    let mut chain = String::from("V0: 1\n");
    for level in 0..10_000 {
        chain.push_str(&format!("V{}: [$V{level}]\n", level + 1));
    }
    assert!(errors(&chain).iter().any(|it| it.contains("levels deep")));
}

#[test]
fn variables_cannot_multiply_without_bound() {
    let mut text = String::from("V0: aaaaaaaaaa\n");
    for level in 0..60 {
        text.push_str(&format!("V{}: [$V{level}, $V{level}]\n", level + 1));
    }
    let Parsed { map, errors } = parsed(&text);
    assert_eq!(map, Map::default());
    assert!(errors.iter().any(|it| it.text.contains("too large")));
}

#[test]
fn hostile_text_takes_linear_time() {
    // Each of these was, or could be, quadratic; a debug build still reads them at once.
    for piece in [
        "a: {\n",
        "a: [",
        "$",
        "1",
        "'",
        "\\",
        "(",
        ")",
        "a:$A\n",
        "A: 1\na: $a\n",
        "{",
        "}",
        "a: 1k",
        "#",
        "/",
    ] {
        let text = piece.repeat(200_000 / piece.len());
        let _ = parsed(&text);
    }
}
