//! Tests of reading names out of certificates.

use super::*;

fn certificate(name: &str) -> Certificate {
    let text = std::fs::read(format!("certs/{name}-cert.pem")).unwrap();
    let (item, _) = rustls_pemfile::read_one_from_slice(&text).unwrap().unwrap();
    let rustls_pemfile::Item::X509Certificate(der) = item else {
        panic!("{name} is no certificate");
    };
    Certificate::parse(&der).unwrap()
}

#[test]
fn alternative_names_come_in_their_order() {
    let mail = certificate("client-email");
    assert_eq!(mail.emails, ["first@example.com", "derek@nats.io"]);
    let dns = certificate("client-dns");
    assert_eq!(dns.dns_names, ["other.example.com", "app.nats.dev"]);
    let uri = certificate("client-uri");
    assert_eq!(uri.uris, ["spiffe://localhost/my-nats-service/user-a"]);
    // 2073-12-31T23:59:59Z, and a year written with two digits.
    assert_eq!(mail.not_after, Some(3_281_990_399));
    assert_eq!(certificate("client-expired").not_after, Some(1_609_459_200));
}

#[test]
fn subjects_are_written_in_one_order_whatever_theirs() {
    for (name, expected) in [
        (
            "client-dn",
            "CN=localhost,OU=NATS,O=NATS,L=Los Angeles,ST=CA,C=US",
        ),
        ("client-dn-multi", r"CN=app,OU=Team,O=NATS\, Inc.,C=US"),
        ("client-dn-dc", "CN=John Doe,OU=Users+OU=Apps"),
        ("client-dn-ous", "CN=two units,OU=first+OU=second,O=NATS"),
        ("client-dn-email", "CN=with mail,O=NATS"),
    ] {
        assert_eq!(certificate(name).subject(), expected);
    }
    let components = certificate("client-dn-dc").domain_components();
    assert_eq!(components, "DC=com,DC=example");
}

#[test]
fn configured_names_match_in_order_or_in_any() {
    let names = |name: &str| certificate(name).distinguished_name();
    let dn = names("client-dn").unwrap();
    let straight = Dn::parse("CN=localhost, OU=NATS,O=NATS,L=Los Angeles ,ST=CA,c=US").unwrap();
    assert!(dn.is_same(&straight) && dn.is_permutation(&straight));
    let reversed = Dn::parse("C=US,ST=CA,L=Los Angeles,O=NATS,OU=NATS,CN=localhost").unwrap();
    assert!(!dn.is_same(&reversed) && dn.is_permutation(&reversed));
    for other in [
        "CN=localhost",
        "CN=localhost,OU=NATS,O=NATS,L=Los Angeles,ST=CA,C=us",
        "CN=localhost,OU=NATS,OU=NATS,L=Los Angeles,ST=CA,C=US",
        "CN=localhost,CN=localhost,O=NATS,L=Los Angeles,ST=CA,C=US",
    ] {
        let other = Dn::parse(other).unwrap();
        assert!(
            !dn.is_same(&other) && !dn.is_permutation(&other),
            "{other:?}"
        );
        assert!(!other.is_permutation(&dn), "{other:?}");
    }
    let multi = names("client-dn-multi").unwrap();
    assert!(multi.is_same(&Dn::parse(r"C=US,O=NATS\, Inc.,OU=Team+CN=app").unwrap()));
    assert!(!multi.is_permutation(&Dn::parse(r"C=US,O=NATS\, Inc.,OU=Team,CN=app").unwrap()));
    // Mail in a name is of no kind that a configuration can write.
    assert_eq!(names("client-dn-email"), None);
}

#[test]
fn names_are_read_as_rfc_2253_writes_them() {
    for text in [
        "",
        "derek@nats.io",
        "CN=#04",
        "XX=1",
        "CN=a,",
        r"CN=\",
        r"CN=\zz",
        "CN=a+",
    ] {
        assert_eq!(Dn::parse(text), None, "{text}");
    }
    let same = |a: &str, b: &str| Dn::parse(a).unwrap().is_same(&Dn::parse(b).unwrap());
    assert!(same(r"CN=\61\C3\a9\ ", r"cn = aé\20"));
    assert!(same("OU=a+CN=b", "CN=b + OU=a"));
    assert!(!same("CN=a", "CN=A"));
}

#[test]
fn sorted_names_are_equal_where_one_is_a_permutation_of_the_other() {
    let names = [
        "CN=a,OU=b",
        "OU=b,CN=a",
        "CN=a+OU=b",
        "OU=b+CN=a",
        "CN=a,OU=b,OU=b",
        "OU=b,CN=a,OU=b",
        "OU=b,OU=b,CN=a,CN=a",
        "CN=b,OU=a",
        "CN=a",
        "OU=b+CN=a,DC=x",
        "DC=x,CN=a+OU=b",
    ];
    let names = names.map(|text| Dn::parse(text).unwrap());
    for (one, other) in names
        .iter()
        .flat_map(|one| names.iter().map(move |it| (one, it)))
    {
        let is_same = one.clone().sorted() == other.clone().sorted();
        assert_eq!(is_same, one.is_permutation(other), "{one:?} {other:?}");
    }
}

#[test]
fn wildcards_stand_for_the_first_label() {
    for (name, host, matches) in [
        ("a.example.com", "A.example.com", true),
        ("*.example.com", "a.Example.com", true),
        ("*.example.com", "example.com", false),
        ("*.example.com", "a.b.example.com", false),
        ("*.example.com", ".example.com", false),
        ("a*.example.com", "ab.example.com", false),
        ("", "", false),
    ] {
        assert_eq!(matches_host(name, host), matches, "{name} {host}");
    }
}

#[test]
fn hosts_of_known_urls_are_names() {
    let local = certificate("server");
    assert!(local.is_for_host("LOCALHOST") && !local.is_for_host("127.0.0.1"));
    let wildcard = certificate("server-wildcard");
    assert!(wildcard.is_for_host("a.example.com") && wildcard.is_for_host("example.com"));
    assert!(!wildcard.is_for_host("a.b.example.com"));
}

#[test]
fn anything_may_be_given_for_a_certificate() {
    let text = std::fs::read("certs/client-all-cert.pem").unwrap();
    let Some((rustls_pemfile::Item::X509Certificate(der), _)) =
        rustls_pemfile::read_one_from_slice(&text).unwrap()
    else {
        panic!("no certificate");
    };
    for cut in 0..der.len() {
        assert_eq!(Certificate::parse(&der[..cut]), None, "cut at {cut}");
        for byte in [0, 0x1f, 0x80, 0x84, 0xff] {
            let mut other = der.to_vec();
            other[cut] = byte;
            // Whatever it says, it is over soon and does no harm.
            let _ = Certificate::parse(&other);
        }
    }
}
