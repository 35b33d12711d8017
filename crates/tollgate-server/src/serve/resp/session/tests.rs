//! What sessions answer, without a server.

use proptest::prelude::*;

use super::*;

fn rules(password: Option<&str>) -> Rules {
    Rules::new(KeySeed::new([7; 16]), password)
}

/// A client that has sent all this: what it is answered, what else is to be done, and whether it is over.
#[derive(Debug, Default, PartialEq, Eq)]
struct Course {
    said: String,
    steps: Vec<Step>,
    is_over: bool,
}

/// Sends the parts of an input one after the other.
fn course<'i>(rules: &Rules, parts: impl IntoIterator<Item = &'i [u8]>) -> Course {
    let mut session = Session::new(1, ("there".to_owned(), "here".to_owned()), rules);
    let (mut spans, mut replies, mut kept, mut course) =
        (Spans::default(), Replies::default(), Vec::new(), Course::default());
    for part in parts {
        if course.is_over {
            break;
        }
        kept.extend_from_slice(part);
        loop {
            let walked = session.walk(rules, &kept, &mut spans, &mut replies, |step, _, _| {
                if !matches!(step, Step::Answered) {
                    course.steps.push(step);
                }
            });
            kept.drain(..walked.taken);
            course.is_over = walked.is_over;
            course.said += &String::from_utf8_lossy(&replies.0);
            replies.0.clear();
            if !walked.is_full {
                break;
            }
        }
    }
    course
}

fn said(lines: &str) -> String {
    course(&rules(None), [lines.as_bytes()]).said
}

#[test]
fn what_every_client_says_first() {
    assert_eq!(said("PING\r\nping hello\r\nECHO x\r\n"), "+PONG\r\n$5\r\nhello\r\n$1\r\nx\r\n");
    assert_eq!(
        said("SELECT 0\nSELECT 1\nSELECT x\n"),
        "+OK\r\n-ERR DB index is out of range\r\n-ERR value is not an integer or out of range\r\n"
    );
    assert_eq!(
        said("CLIENT SETNAME a\nCLIENT GETNAME\nRESET\nCLIENT GETNAME\nCLIENT ID\n"),
        "+OK\r\n$1\r\na\r\n+RESET\r\n$-1\r\n:1\r\n"
    );
    assert_eq!(
        said("CLIENT SETINFO LIB-NAME x\nclient setinfo lib-ver 1\nCLIENT SETINFO X y\n"),
        "+OK\r\n+OK\r\n-ERR Unrecognized option 'X'\r\n"
    );
    assert_eq!(said("CLIENT SETNAME 'a b'\n").split_once(" names").unwrap().0, "-ERR Client");
    assert!(
        said("CLIENT SETNAME me\nCLIENT LIST\n").contains("id=1 addr=there laddr=here name=me db=0 resp=2")
    );
    assert_eq!(said("COMMAND COUNT\n"), ":21\r\n");
    assert!(
        said("COMMAND\n")
            .starts_with("*21\r\n*10\r\n$11\r\ncl.throttle\r\n:-5\r\n*1\r\n+fast\r\n:1\r\n:1\r\n:1\r\n")
    );
    assert_eq!(said("COMMAND INFO nothing\n"), "*1\r\n$-1\r\n");
    assert!(said("COMMAND DOCS ping\n").starts_with("*2\r\n$4\r\nping\r\n*4\r\n$7\r\nsummary\r\n"));
}

#[test]
fn mistakes_are_told_in_the_words_of_redis() {
    for (line, told) in [
        ("FOO", "ERR unknown command 'FOO', with args beginning with: "),
        ("foo a 'b\r'", "ERR unknown command 'foo', with args beginning with: 'a' 'b ' "),
        ("ECHO", "ERR wrong number of arguments for 'echo' command"),
        ("PING a b", "ERR wrong number of arguments for 'ping' command"),
        ("CLIENT", "ERR wrong number of arguments for 'client' command"),
        ("CLIENT SETNAME", "ERR wrong number of arguments for 'client|setname' command"),
        ("CLIENT KILL", "ERR unknown subcommand 'KILL'. Try CLIENT HELP."),
        ("HELLO 4", "NOPROTO unsupported protocol version"),
        ("HELLO x", "ERR Protocol version is not an integer or out of range"),
        ("HELLO 3 SETNAME", "ERR Syntax error in HELLO option 'SETNAME'"),
        (
            "TG.CHECK user u path",
            "ERR wrong number of arguments for 'tg.check' command: after each name comes its value",
        ),
        ("TG.CHECK ip 300.1.1.1", "ERR ip: '300.1.1.1' is not an address"),
        ("TG.CHECK cost -1", "ERR cost: '-1' is not a whole number up to 4294967295"),
    ] {
        assert_eq!(said(&format!("{line}\n")), format!("-{told}\r\n"), "{line}");
    }
    assert!(said("TG.CHECK usr u\n").contains("`usr` is not an attribute"));
    let many = format!("FOO {}\n", "x".repeat(200));
    assert!(said(&many).len() < 400);
}

#[test]
fn hello_changes_all_or_nothing() {
    let greeting = said("HELLO 3 SETNAME me\nCLIENT GETNAME\nCLIENT SETNAME ''\nCLIENT GETNAME\n");
    assert!(greeting.starts_with("%7\r\n$6\r\nserver\r\n$8\r\ntollgate\r\n"), "{greeting}");
    assert!(greeting.contains("$5\r\nproto\r\n:3\r\n"));
    assert!(greeting.ends_with("$2\r\nme\r\n+OK\r\n_\r\n"), "{greeting}");
    let refused = said("HELLO 3 SETNAME 'a b'\nCLIENT GETNAME\n");
    assert!(refused.starts_with("-ERR") && refused.ends_with("$-1\r\n"), "{refused}");
    assert!(said("HELLO\n").starts_with("*14\r\n"));
}

#[test]
fn strangers_may_say_who_they_are_and_no_more() {
    let rules = rules(Some("open sesame"));
    let said = |lines: &str| course(&rules, [lines.as_bytes()]).said;
    assert_eq!(said("PING\n"), "-NOAUTH Authentication required.\r\n");
    assert_eq!(said("CL.THROTTLE k 1 1 1\n"), "-NOAUTH Authentication required.\r\n");
    assert!(said("HELLO 3\n").starts_with("-NOAUTH HELLO must be called"));
    for wrong in ["AUTH x", "AUTH 'open sesam'", "AUTH other 'open sesame'", "HELLO 3 AUTH default x"] {
        let wrong = said(&format!("{wrong}\nPING\n"));
        assert_eq!(
            wrong,
            "-WRONGPASS invalid username-password pair or user is disabled.\r\n-NOAUTH Authentication required.\r\n"
        );
    }
    assert_eq!(
        said("AUTH 'open sesame'\nPING\nRESET\nPING\n"),
        "+OK\r\n+PONG\r\n+RESET\r\n-NOAUTH Authentication required.\r\n"
    );
    assert!(said("HELLO 2 AUTH default 'open sesame'\nPING\n").ends_with("+PONG\r\n"));
    assert_eq!(said("QUIT\nPING\n"), "+OK\r\n");
    // Where there is no password, whoever sends one has the wrong server.
    assert!(super::tests::said("AUTH x\n").starts_with("-ERR AUTH <password> called without any password"));
    assert_eq!(super::tests::said("AUTH default x\n"), "+OK\r\n");
}

#[test]
fn what_a_client_must_not_say_ends_its_connection() {
    let course = course(&rules(None), [&b"PING\n*1\r\n*1\r\nPING\r\n"[..]]);
    assert_eq!(course.said, "+PONG\r\n-ERR Protocol error: expected '$', got '*'\r\n");
    assert_eq!((course.steps, course.is_over), (vec![Step::Refused], true));
}

/// Bytes that are commands more often than chance has it.
fn likely() -> impl Strategy<Value = Vec<u8>> {
    let words = prop_oneof![
        Just("CL.THROTTLE k 1 2 3".to_owned()),
        Just("THROTTLE k 1 2 3 0".to_owned()),
        Just("GCRA k 1 2 3.5 TOKENS 2".to_owned()),
        Just("TG.CHECK user u path /x cost 3".to_owned()),
        Just("TG.RESET ip ::1 header:X-A b".to_owned()),
        Just("HELLO 3".to_owned()),
        Just("HELLO 2 AUTH default secret SETNAME me".to_owned()),
        Just("CLIENT GETNAME".to_owned()),
        Just("AUTH secret".to_owned()),
        Just("COMMAND INFO ping nothing".to_owned()),
        Just("INFO server".to_owned()),
        Just("RESET".to_owned()),
        Just("QUIT".to_owned()),
        "[A-Z. ]{0,16}[a-z0-9' ]{0,8}",
    ];
    let array = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let texts: Vec<String> = words.iter().map(|word| format!("${}\r\n{word}\r\n", word.len())).collect();
        format!("*{}\r\n{}", words.len(), texts.concat()).into_bytes()
    };
    let piece = (words, any::<bool>()).prop_map(move |(line, is_array)| {
        if is_array { array(&line) } else { format!("{line}\r\n").into_bytes() }
    });
    let piece = prop_oneof![8 => piece, 1 => prop::collection::vec(any::<u8>(), 0..12)];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn any_bytes_get_the_same_answers_however_they_are_cut(
        input in likely(),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..6),
        is_closed in any::<bool>(),
    ) {
        let rules = rules(is_closed.then_some("secret"));
        let mut cuts: Vec<usize> = cuts.iter().map(|cut| cut.index(input.len() + 1)).collect();
        cuts.extend([0, input.len()]);
        cuts.sort_unstable();
        let parts = cuts.windows(2).map(|ends| &input[ends[0]..ends[1]]);
        let whole = course(&rules, [input.as_slice()]);
        prop_assert_eq!(course(&rules, parts), whole);
        let bytes = course(&rules, input.chunks(1));
        prop_assert_eq!(bytes, course(&rules, [input.as_slice()]));
    }
}
