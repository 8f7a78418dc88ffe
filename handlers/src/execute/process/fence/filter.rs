//! System calls that a handler's process is refused. A list of what is refused, not of what is
//! allowed: runtimes differ in what they need, and files, network and other processes are walled
//! off by other means. What stays is what reaches deep into the kernel or past those walls.

use std::collections::BTreeMap;
use std::io;

use libc::{
    AF_INET, AF_INET6, AF_UNIX, CLONE_NEWCGROUP, CLONE_NEWIPC, CLONE_NEWNET, CLONE_NEWNS,
    CLONE_NEWPID, CLONE_NEWUSER, CLONE_NEWUTS, MAP_ANONYMOUS, MAP_SHARED, SOCK_STREAM,
};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen as Len, SeccompCmpOp as Op, SeccompCondition,
    SeccompFilter, SeccompRule, TargetArch, sock_filter,
};

/// Refused whatever the arguments. `setsid` and `setpgid` would leave the group that is killed
/// when time is up; memory that is shared or has no user is counted by no limit.
const REFUSED: &[libc::c_long] = &[
    libc::SYS_acct,
    libc::SYS_add_key,
    libc::SYS_adjtimex,
    libc::SYS_bpf,
    libc::SYS_chroot,
    libc::SYS_clock_adjtime,
    libc::SYS_clock_settime,
    libc::SYS_delete_module,
    libc::SYS_fanotify_init,
    libc::SYS_finit_module,
    libc::SYS_fsconfig,
    libc::SYS_fsmount,
    libc::SYS_fsopen,
    libc::SYS_fspick,
    libc::SYS_init_module,
    libc::SYS_io_uring_enter,
    libc::SYS_io_uring_register,
    libc::SYS_io_uring_setup,
    libc::SYS_kcmp,
    libc::SYS_kexec_file_load,
    libc::SYS_kexec_load,
    libc::SYS_keyctl,
    libc::SYS_lookup_dcookie,
    libc::SYS_memfd_create,
    libc::SYS_memfd_secret,
    libc::SYS_mount,
    libc::SYS_mount_setattr,
    libc::SYS_move_mount,
    libc::SYS_msgget,
    libc::SYS_name_to_handle_at,
    libc::SYS_nfsservctl,
    libc::SYS_open_by_handle_at,
    libc::SYS_open_tree,
    libc::SYS_perf_event_open,
    libc::SYS_pidfd_getfd,
    libc::SYS_pivot_root,
    libc::SYS_process_madvise,
    libc::SYS_process_vm_readv,
    libc::SYS_process_vm_writev,
    libc::SYS_ptrace,
    libc::SYS_quotactl,
    libc::SYS_reboot,
    libc::SYS_request_key,
    libc::SYS_semget,
    libc::SYS_setdomainname,
    libc::SYS_sethostname,
    libc::SYS_setns,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_settimeofday,
    libc::SYS_shmget,
    libc::SYS_swapoff,
    libc::SYS_swapon,
    libc::SYS_syslog,
    libc::SYS_umount2,
    libc::SYS_unshare,
    libc::SYS_userfaultfd,
    libc::SYS_vhangup,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_ioperm,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_iopl,
];
const NAMESPACES: [libc::c_int; 7] = [
    CLONE_NEWCGROUP,
    CLONE_NEWIPC,
    CLONE_NEWNET,
    CLONE_NEWNS,
    CLONE_NEWPID,
    CLONE_NEWUSER,
    CLONE_NEWUTS,
];
/// Where the numbers of x32 begin: the same calls under other numbers.
const X32: u32 = 0x4000_0000;

/// The filters of a process; all of them count, the strictest answer wins.
pub(super) fn programs(own_network: bool) -> io::Result<Vec<BpfProgram>> {
    let failed = |error: &dyn std::fmt::Display| io::Error::other(format!("seccomp: {error}"));
    let arch = TargetArch::try_from(std::env::consts::ARCH).map_err(|e| failed(&e))?;
    let refuse = SeccompAction::Errno(libc::EPERM as u32);
    let rules = rules(own_network).map_err(|e| failed(&e))?;
    let filter = SeccompFilter::new(rules, SeccompAction::Allow, refuse, arch);
    let program = filter.map_err(|e| failed(&e))?.try_into();
    Ok(vec![program.map_err(|e: seccompiler::BackendError| failed(&e))?, unknown_calls()])
}

type Rules = BTreeMap<i64, Vec<SeccompRule>>;

fn rules(own_network: bool) -> Result<Rules, seccompiler::BackendError> {
    let mut rules: Rules = REFUSED.iter().map(|call| (*call, Vec::new())).collect();
    let has_bits = |argument, bits: libc::c_int| {
        let bits = bits as u64;
        let condition = SeccompCondition::new(argument, Len::Dword, Op::MaskedEq(bits), bits)?;
        SeccompRule::new(vec![condition])
    };
    let clone = NAMESPACES.iter().map(|kind| has_bits(0, *kind)).collect::<Result<_, _>>()?;
    rules.insert(libc::SYS_clone, clone);
    rules.insert(libc::SYS_mmap, vec![has_bits(3, MAP_SHARED | MAP_ANONYMOUS)?]);
    rules.insert(libc::SYS_socket, sockets(own_network)?);
    Ok(rules)
}

/// Families without need are refused. Where network and root are the machine's own, everything is
/// but TCP, whose ports Landlock knows: sockets with a name in a folder it does not.
fn sockets(own_network: bool) -> Result<Vec<SeccompRule>, seccompiler::BackendError> {
    let not = |argument, value: libc::c_int| {
        SeccompCondition::new(argument, Len::Dword, Op::Ne, value as u64)
    };
    let is = |argument, mask, value: libc::c_int| {
        SeccompCondition::new(argument, Len::Dword, Op::MaskedEq(mask), value as u64)
    };
    let mut others = vec![not(0, AF_INET)?, not(0, AF_INET6)?];
    if own_network {
        others.push(not(0, AF_UNIX)?);
    }
    let mut rules = vec![SeccompRule::new(others)?];
    if !own_network {
        for family in [AF_INET, AF_INET6] {
            for kind in (0..16).filter(|kind| *kind != SOCK_STREAM) {
                let all = u64::from(u32::MAX);
                rules.push(SeccompRule::new(vec![is(0, all, family)?, is(1, 0xf, kind)?])?);
            }
        }
    }
    Ok(rules)
}

/// `clone3` hides its flags in memory, so it does not exist here (the C library then uses
/// `clone`); nor do calls under numbers that the other filter does not look at.
fn unknown_calls() -> BpfProgram {
    // Numbers of linux/bpf_common.h and linux/seccomp.h.
    const LOAD: u16 = 0x20;
    const IF_EQUAL: u16 = 0x15;
    const IF_AT_LEAST: u16 = 0x35;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    const ERRNO: u32 = 0x0005_0000;
    let step = |code, jt, jf, k| sock_filter { code, jt, jf, k };
    vec![
        step(LOAD, 0, 0, 0),
        step(IF_EQUAL, 1, 0, libc::SYS_clone3 as u32),
        step(IF_AT_LEAST, 0, 1, X32),
        step(RETURN, 0, 0, ERRNO | libc::ENOSYS as u32),
        step(RETURN, 0, 0, ALLOW),
    ]
}

/// Puts the process under a filter for good. Runs between fork and exec.
pub(super) fn apply(program: &BpfProgram) -> io::Result<()> {
    let refused = |_| io::Error::from_raw_os_error(libc::EPERM);
    seccompiler::apply_filter(program).map_err(refused)
}
