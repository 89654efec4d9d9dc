//! Makes subjects of other subjects by arbitrary mappings and imports: `source LF destination LF subject`.

#![no_main]
#![forbid(unsafe_code)]

use libfuzzer_sys::fuzz_target;
use midge::subject;
use midge::subject::renaming::Renaming;
use midge::subject::transform::Transform;

fuzz_target!(|text: &str| {
    let mut lines = text.splitn(3, '\n');
    let mut line = || lines.next().unwrap_or_default();
    let (source, destination, given) = (line(), line(), line());
    if let Ok(transform) = Transform::new(source, destination) {
        for random in [0, u64::MAX] {
            // Whatever is given, a message that the source does not match included.
            transform.apply(given.as_bytes(), random, &mut Vec::new());
        }
    }
    let Ok(renaming) = Renaming::new(source, destination) else {
        return;
    };
    let (mut here, mut there) = (Vec::new(), Vec::new());
    let is_one = subject::matches(source.as_bytes(), given.as_bytes());
    assert_eq!(renaming.name_here(given.as_bytes(), &mut here), is_one);
    if is_one {
        // There and back again.
        assert!(renaming.name_there(&here, &mut there));
        assert_eq!(there, given.as_bytes());
        assert!(subject::matches(&renaming.pattern_here(), &here));
        let wanted = renaming
            .wanted_there(&here)
            .expect("it is a part of the import");
        assert!(subject::matches(&wanted, given.as_bytes()));
    }
    if let Some(wanted) = subject::is_valid(given.as_bytes())
        .then(|| renaming.wanted_there(given.as_bytes()))
        .flatten()
    {
        assert!(subject::is_subset(&wanted, source.as_bytes()));
    }
});
