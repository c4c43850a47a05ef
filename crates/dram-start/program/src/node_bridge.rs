//! Connects to a node that speaks TLS, through an emulator of its own: this program speaks no TLS.
//!
//! The emulator is a hidden node. It takes the packets that would be sent to the node from a socket, makes the calls,
//! and writes the results and the requests for input and output of called code to the socket, in the same form.

use alloc::format;

use dram_start::byte_string::{ByteString, concat, split_once};
use dram_start::environment::EnvironmentVariables;
use dram_start::error::{StartError, printable};
use dram_start::launch::EmulatorPurpose;
use dram_start::release::{NodeNaming, StartSettings};
use dram_start::start_conf::StartNodeNameKind;

use crate::boot::{self, EmulatorOptions};
use crate::net::{NodeStream, StreamRead};
use crate::node_connection::NodeTarget;
use crate::{files, process, sys};

/// The file descriptor of the socket in the emulator.
const SOCKET: i32 = 3;
/// The time for the start of the emulator and for its connection to the node, in milliseconds.
const START_TIMEOUT: u64 = 60_000;
/// The first packet of an emulator that has connected to the node.
const READY: &[u8] = b"ready";

/// The program of the emulator; `Node` is the name of the node. `{6, …}` is a message to a registered process, and
/// `{2, …}` one to a process.
const BRIDGE: &str = "Port = open_port({fd, 3, 3}, [binary, {packet, 4}, eof]), \
     Packet = fun(Message) -> port_command(Port, [112, term_to_binary({2, '', self()}), term_to_binary(Message)]) end, \
     Loop = fun Loop() -> receive \
       {Port, {data, <<112, Binary/binary>>}} -> \
         {Control, Used} = binary_to_term(Binary, [used]), <<_:Used/binary, Rest/binary>> = Binary, \
         case {Control, binary_to_term(Rest)} of \
           {{6, _, _, rex}, {_, {_, Tag}, {call, M, F, A, _}}} -> \
             Own = self(), \
             spawn(fun() -> group_leader(Own, self()), Result = rpc:call(Node, M, F, A), Own ! {result, Tag, Result} end); \
           {{2, _, To}, Message} -> To ! Message \
         end, Loop(); \
       {Port, {data, _}} -> Loop(); \
       {Port, eof} -> erlang:halt(0); \
       {result, Tag, Result} -> Packet({Tag, Result}), Loop(); \
       {nodedown, Node} -> erlang:halt(0); \
       {io_request, _, _, _} = Request -> Packet(Request), Loop(); \
       _ -> Loop() \
     end end, \
     case net_kernel:connect_node(Node) of \
       true -> monitor_node(Node, true), port_command(Port, <<\"ready\">>), Loop(); \
       _ -> port_command(Port, <<\"refused\">>), erlang:halt(0) \
     end.";

/// The node name of an emulator that connects to `target`: that of the other node with a random prefix.
pub(crate) fn helper_naming(target: &NodeTarget, to: &[u8]) -> NodeNaming {
    let (name, host) = split_once(to, b'@').unwrap_or((to, b""));
    let own = concat(&[b"rem-", &files::random_name(), b"-", name]);
    let node = match target.kind {
        // A long name needs a host. That of the other node can be resolved, so it is used.
        StartNodeNameKind::Name => concat(&[&own, b"@", host]),
        StartNodeNameKind::Sname | StartNodeNameKind::None => own,
    };
    NodeNaming { kind: target.kind, node }
}

/// Starts the emulator, and waits until it has connected to the node `to`.
pub(crate) fn connect_through_emulator(
    release: &StartSettings,
    target: &NodeTarget,
    to: &[u8],
    env: &EnvironmentVariables,
) -> Result<NodeStream, StartError> {
    let wrong = |why: &str, help: &str| StartError::new(format!("cannot reach `{}`: {why}", printable(to)), help);
    let naming = Some(helper_naming(target, to));
    let code = concat(&[b"Node = list_to_atom(\"", &escaped(to), b"\"), ", BRIDGE.as_bytes()]);
    let ready = boot::prepare_emulator(
        release,
        &EmulatorPurpose::NodeBridge(code),
        EmulatorOptions { naming, ..EmulatorOptions::default() },
        env,
    )?;
    let failed = |errno| wrong(&format!("cannot start an emulator for TLS: {errno}"), "free some memory");
    let (own, other) = sys::socket_pair().map_err(failed)?;
    let begin = || -> StartError {
        let null = match sys::open(b"/dev/null", sys::RDWR | sys::CLOEXEC, 0) {
            Ok(null) => null,
            Err(errno) => return failed(errno),
        };
        // What its logger writes must not be taken for the output of called code.
        let errors = sys::StartFd(2);
        let streams = sys::duplicate(&null, 0).and_then(|()| sys::duplicate(&errors, 1));
        errors.leave_open();
        let socket = match other.0 == SOCKET {
            true => sys::clear_close_on_exec(&other),
            false => sys::duplicate(&other, SOCKET),
        };
        match streams.and(socket) {
            Ok(()) => ready.execute_supervised(),
            Err(errno) => failed(errno),
        }
    };
    process::spawn_detached(|| process::print_error(&begin()))?;
    drop(other);
    let stream = NodeStream::from_socket(own);
    let length = stream.read(4, START_TIMEOUT);
    let packet = match length {
        Ok(StreamRead::Bytes(length)) if length[..3] == [0, 0, 0] => stream.read(usize::from(length[3]), START_TIMEOUT),
        other => other,
    };
    match packet {
        Ok(StreamRead::Bytes(word)) if word == READY => Ok(stream),
        Ok(StreamRead::Bytes(_)) => Err(wrong(
            "it does not take our cookie, or TLS fails",
            "set RELEASE_COOKIE to that of the running system; see the flags of TLS in `vm.args` and `remote.vm.args`",
        )),
        Ok(StreamRead::End) => Err(wrong("the emulator for TLS ended at once", "see what it printed")),
        Err(errno) => Err(wrong(&format!("the emulator for TLS does not answer: {errno}"), "see what it printed")),
    }
}

/// Escapes a text for a string of Erlang.
fn escaped(text: &[u8]) -> ByteString {
    let mut found = ByteString::new();
    for byte in text {
        if matches!(byte, b'"' | b'\\') {
            found.push(b'\\');
        }
        found.push(*byte);
    }
    found
}
