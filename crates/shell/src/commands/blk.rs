//! `blk`: requests that block devices have not completed.

use std::io::{self, Write};

use kmortem_kernel::block::{Disk, Request, RequestOrigin, RequestState};
use kmortem_kernel::gaps::Gaps;
use serde::Serialize;

use super::failed;
use crate::args::{Args, Opt};
use crate::error::CommandError;
use crate::output::Output;
use crate::registry::{Command, Rows};
use crate::session::Session;

pub(crate) const COMMAND: Command = Command {
    name: "blk",
    summary: "lists requests that block devices have not completed, and who waits for them",
    arguments: "",
    options: &[Opt::value('d', "DISK", "of this disk only")],
    details: "\
AGE is the time since a request was made. It is in_flight from when the driver
got it. Drivers that take bios themselves (loop on some kernels, device-mapper)
have no requests. A waiter is a task in uninterruptible sleep that has the
request's bio, what the bio gives back, or its page on its stack: proof where it
is a completion, else a good guess.",
    examples: &[("", "all requests")],
    takes_all: false,
    rows: &[Rows {
        options: "",
        row: "a request",
        members: "`disk` `addr` `hw_queue` `tag` `op` `is_write` `state` `sector` `bytes` `start_ns` `issued_ns` `age_ns` `deadline_jiffies` `timeout_jiffies` `bio` `end` `private` `page` `waiters` (`task` `pid` `comm` `by`)",
    }],
    each: None,
    run,
};

/// A request with its disk: a row of JSON.
#[derive(Serialize)]
struct Row<'a> {
    disk: &'a str,
    #[serde(flatten)]
    request: &'a Request,
    #[serde(flatten)]
    origin: Option<&'a RequestOrigin>,
}

fn run(session: &mut Session, args: &Args, out: &mut Output<'_>) -> Result<(), CommandError> {
    let kernel = session.kernel();
    let mut disks = kernel.disks().map_err(failed(COMMAND.name))?;
    if let Some(name) = args.value('d') {
        disks.list.retain(|disk| disk.name.as_deref() == Some(name));
        if disks.list.is_empty() {
            let what = format!("{name}: no such disk (`dev -d` lists them)");
            return Err(CommandError::Failed { command: COMMAND.name, what });
        }
    }
    let all: Vec<(&Disk, &Request)> =
        disks.list.iter().flat_map(|d| d.requests.iter().map(move |r| (d, r))).collect();
    let requests: Vec<&Request> = all.iter().map(|(_, request)| *request).collect();
    let mut gaps = Gaps::default();
    let origins: Vec<Option<RequestOrigin>> = kernel
        .request_origins(&requests)
        .into_iter()
        .map(|origin| gaps.keep("what is behind a request", origin))
        .collect();
    let rows: Vec<Row<'_>> = all
        .iter()
        .zip(&origins)
        .map(|((disk, request), origin)| Row {
            disk: disk.name.as_deref().unwrap_or("-"),
            request,
            origin: origin.as_ref(),
        })
        .collect();
    match out.is_json() {
        true => out.rows(&rows)?,
        false => render(out, &rows)?,
    }
    super::note_gaps(out, disks.list.iter().map(|d| &d.gaps).chain([&disks.gaps, &gaps]))
}

fn render(out: &mut dyn Write, rows: &[Row<'_>]) -> io::Result<()> {
    if rows.is_empty() {
        return writeln!(out, "no requests: all that was asked for is done");
    }
    writeln!(
        out,
        "{:<10} {:<12} {:>12} {:>9} {:>12}  {:<9} {:>3} {:>5}  {:<16}  ENDS IN",
        "DISK", "OPERATION", "SECTOR", "BYTES", "AGE", "STATE", "HWQ", "TAG", "REQUEST"
    )?;
    for Row { disk, request, origin } in rows {
        let age = request.age_ns.map_or("-".to_owned(), |ns| format!("{:.3} s", ns as f64 / 1e9));
        let end = origin.and_then(|o| o.end.as_ref()).map_or("-", |s| s.name.as_str());
        writeln!(
            out,
            "{disk:<10} {:<12} {:>12} {:>9} {age:>12}  {:<9} {:>3} {:>5}  {:016x}  {end}",
            request.op,
            request.sector,
            request.bytes,
            state(request.state),
            request.hw_queue,
            request.tag,
            request.addr,
        )?;
        for waiter in origin.iter().flat_map(|o| &o.waiters) {
            let (pid, comm, by) = (waiter.pid, &waiter.comm, waiter.by);
            writeln!(out, "    waited for by PID {pid} \"{comm}\" (its {by} on the stack)")?;
        }
    }
    Ok(())
}

fn state(state: RequestState) -> String {
    match state {
        RequestState::Queued => "queued".into(),
        RequestState::InFlight => "in_flight".into(),
        RequestState::Complete => "complete".into(),
        RequestState::Other(n) => format!("state {n}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use kmortem_kernel::block::RequestWaiter;
    use kmortem_kernel::symbol::SymbolAt;

    #[test]
    fn requests_with_their_waiters() {
        let request = Request {
            addr: 0xffff_8880_0123_4500,
            hw_queue: 1,
            tag: 17,
            op: "READ".into(),
            is_write: false,
            state: RequestState::InFlight,
            sector: 2048,
            bytes: 4096,
            start_ns: Some(1),
            issued_ns: Some(2),
            age_ns: Some(31_400_000_000),
            deadline_jiffies: 0,
            timeout_jiffies: 0,
        };
        let end = SymbolAt { name: "mpage_read_end_io".into(), offset: 0, size: 8, module: None };
        let waiter = RequestWaiter { task: 1 << 47, pid: 212, comm: "dd".into(), by: "page" };
        let origin =
            RequestOrigin { bio: 1, end: Some(end), private: 0, page: 2, waiters: vec![waiter] };
        let rows = [
            Row { disk: "vda", request: &request, origin: Some(&origin) },
            Row { disk: "vdb", request: &request, origin: None },
        ];
        let mut out = Vec::new();
        render(&mut out, &rows).unwrap();
        render(&mut out, &[]).unwrap();
        insta::assert_snapshot!(String::from_utf8(out).unwrap());
    }
}
