//! A network with nobody in it but the process and one socket that the node listens on. The
//! process opens the socket while it still may, and hands it to the node over a pair of sockets.

use std::io;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

use super::cage::check;

/// Port of the node in a process' own network (AWS Lambda uses the same).
pub(in crate::execute::process) const PORT: u16 = 9001;
/// Connections that may wait to be accepted.
const BACKLOG: libc::c_int = 64;
const FD_BYTES: u32 = size_of::<RawFd>() as u32;

/// Room for one control message with one descriptor; its type gives the alignment.
type Control = [u64; 4];

/// Where a socket arrives, and the end that another process sends it from.
#[allow(unsafe_code)]
pub(in crate::execute) fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut ends = [0; 2];
    let kind = libc::SOCK_DGRAM | libc::SOCK_CLOEXEC;
    // SAFETY: `ends` has room for the two numbers that the call writes.
    check(unsafe { libc::socketpair(libc::AF_UNIX, kind, 0, ends.as_mut_ptr()) })?;
    // SAFETY: both were opened just now and belong to nobody else.
    Ok(unsafe { (OwnedFd::from_raw_fd(ends[0]), OwnedFd::from_raw_fd(ends[1])) })
}

/// Opens the network's loopback and the node's socket in it. Runs between fork and exec.
pub(super) fn give_listener(to: RawFd) -> io::Result<()> {
    loopback_up()?;
    let listener = listen()?;
    let sent = send(to, listener);
    close(listener);
    sent
}

/// `struct ifreq` of linux/if.h, as far as flags need it.
#[repr(C)]
struct InterfaceRequest {
    name: [u8; 16],
    flags: libc::c_short,
    rest: [u8; 22],
}

#[allow(unsafe_code)]
fn loopback_up() -> io::Result<()> {
    let socket = socket(libc::SOCK_DGRAM)?;
    let mut request = InterfaceRequest { name: [0; 16], flags: libc::IFF_UP as _, rest: [0; 22] };
    request.name[..2].copy_from_slice(b"lo");
    let pointer = &request as *const InterfaceRequest;
    // SAFETY: the request has the size that the call reads, and outlives it.
    let done = check(unsafe { libc::ioctl(socket, libc::SIOCSIFFLAGS as _, pointer) });
    close(socket);
    done
}

#[allow(unsafe_code)]
fn listen() -> io::Result<RawFd> {
    let socket = socket(libc::SOCK_STREAM)?;
    let address = libc::sockaddr_in {
        sin_family: libc::AF_INET as _,
        sin_port: PORT.to_be(),
        sin_addr: libc::in_addr { s_addr: u32::from_be_bytes([127, 0, 0, 1]).to_be() },
        sin_zero: [0; 8],
    };
    let size = size_of::<libc::sockaddr_in>() as libc::socklen_t;
    let pointer = (&raw const address).cast();
    // SAFETY: the address, whose size is given, outlives the call, which only reads it.
    check(unsafe { libc::bind(socket, pointer, size) })?;
    // SAFETY: takes numbers and touches no memory.
    check(unsafe { libc::listen(socket, BACKLOG) })?;
    Ok(socket)
}

#[allow(unsafe_code)]
fn socket(kind: libc::c_int) -> io::Result<RawFd> {
    // SAFETY: takes numbers and touches no memory.
    let socket = unsafe { libc::socket(libc::AF_INET, kind | libc::SOCK_CLOEXEC, 0) };
    check(socket).map(|()| socket)
}

#[allow(unsafe_code)]
fn close(fd: RawFd) {
    // SAFETY: every caller opened it and closes it once.
    unsafe { libc::close(fd) };
}

/// A message of one byte that carries one descriptor.
#[allow(unsafe_code)]
fn message(byte: &mut u8, part: &mut libc::iovec, control: &mut Control) -> libc::msghdr {
    part.iov_base = std::ptr::from_mut(byte).cast();
    part.iov_len = 1;
    // SAFETY: a header of zeros is an empty header.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    // SAFETY: computes a size from a size.
    header.msg_controllen = unsafe { libc::CMSG_SPACE(FD_BYTES) } as _;
    header
}

/// Sends a socket over one of a [`pair`]; an error where those sent before were not yet taken.
#[allow(unsafe_code)]
pub(in crate::execute) fn send(to: RawFd, fd: RawFd) -> io::Result<()> {
    let (mut byte, mut control) = (b'l', Control::default());
    let mut part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let header = message(&mut byte, &mut part, &mut control);
    // SAFETY: the header names `control`, which has room for one message of this size.
    let first = unsafe { libc::CMSG_FIRSTHDR(&header) };
    // SAFETY: `first` points into `control`, which nobody else uses now.
    unsafe {
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(FD_BYTES) as _;
        libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(fd);
    }
    // SAFETY: everything that the header points to outlives the call.
    check(unsafe { libc::sendmsg(to, &header, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL) }
        as libc::c_int)
}

/// The listener that a process has sent; it must have been sent before.
pub(in crate::execute::process) fn receive_listener(from: &OwnedFd) -> io::Result<TcpListener> {
    let listener = TcpListener::from(receive(from)?);
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// The socket that another process has sent; it must have been sent before.
#[allow(unsafe_code)]
pub(in crate::execute) fn receive(from: &OwnedFd) -> io::Result<OwnedFd> {
    let (mut byte, mut control) = (0, Control::default());
    let mut part = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };
    let mut header = message(&mut byte, &mut part, &mut control);
    let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
    // SAFETY: everything that the header points to outlives the call and may be written.
    let read = unsafe { libc::recvmsg(from.as_raw_fd(), &mut header, flags) };
    check(read as libc::c_int)?;
    // SAFETY: the header is as the call left it; the answer is null or points into `control`.
    let first = unsafe { libc::CMSG_FIRSTHDR(&header) };
    if first.is_null() {
        return Err(io::Error::other("the process sent no socket"));
    }
    // SAFETY: `first` points to a whole message in `control`.
    let kind = unsafe { ((*first).cmsg_level, (*first).cmsg_type) };
    if kind != (libc::SOL_SOCKET, libc::SCM_RIGHTS) {
        return Err(io::Error::other("the process sent something else than a socket"));
    }
    // SAFETY: a message of this kind holds at least one descriptor, which is ours from now on.
    Ok(unsafe { OwnedFd::from_raw_fd(libc::CMSG_DATA(first).cast::<RawFd>().read_unaligned()) })
}
