//! `kmortem convert`: a dump in another form.
//!
//! [`form`] names the forms, [`target`] holds a file until it is whole, [`kernel`] asks the kernel
//! for what the input's headers lack, [`bar`] and [`summary`] tell of it. The forms themselves are
//! written by `kmortem_vmcore::writer`.

mod bar;
mod base;
mod form;
mod kernel;
mod summary;
mod target;

use std::fs::File;
use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use clap::Args;
use kmortem_kernel::Kernel;
use kmortem_vmcore::writer::{
    Archive, Check, Contents, FileOutput, Flattened, ImageContents, Options, Output, Progress,
    Stream, Summary, WriteError, archive, elf, flattened, kdump, raw,
};
use kmortem_vmcore::{Image, MappedFile, OpenOptions, Source};

use self::bar::Bar;
use self::base::BaseFile;
use self::form::{Form, Layout};
use self::summary::Report;
use self::target::{Target, is_stdout};
use crate::error::CliError;

/// Converts a dump to another form, page for page
#[derive(Args)]
#[command(
    override_usage = "kmortem convert [OPTIONS] <VMCORE>... <OUT>",
    after_help = EXAMPLES
)]
pub(crate) struct ConvertArgs {
    /// The dump (of a split dump all its parts), then the file to write; `-` is standard output
    #[arg(required = true, num_args = 2.., value_name = "VMCORE... OUT")]
    files: Vec<PathBuf>,
    /// The form; without it the end of OUT's name tells: .elf .kdump .zst .flat .raw
    #[arg(long, value_enum, value_name = "FORM")]
    to: Option<Form>,
    /// Level of compression, for zstd and zlib [default: zstd 1, zlib 2, archives 12]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    level: Option<i32>,
    /// Writes a kdump-compressed dump in N parts: OUT.1 to OUT.N
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1024))]
    split: Option<u32>,
    /// Keeps what every dump of this kernel build has once in DIR, named by its build id, and in
    /// the archive only the rest
    #[arg(long, value_name = "DIR")]
    base: Option<PathBuf>,
    /// Threads that read and compress [default: all CPUs]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=4096))]
    threads: Option<u32>,
    /// Replaces OUT if it is there
    #[arg(long)]
    force: bool,
    /// The summary as one JSON object
    #[arg(long)]
    json: bool,
}

const EXAMPLES: &str = "\
What the input lacks stays absent, with its reason where the form can carry it (all but raw):
filtered is not lost, and neither is ever written as zeros.

An archive made with --base is read together with its base, which is looked for beside the archive,
in the folder where it was, and in those that KMORTEM_BASE names.

Examples:
  kmortem convert vmcore small.kdump                     kdump-compressed, zstd, all CPUs
  kmortem convert vmcore out --to kdump-zlib --level 6
  kmortem convert vmcore.kdump vmcore.elf                an ELF core for gdb and others
  kmortem convert vmcore.1 vmcore.2 whole.kdump          the parts of a split dump as one
  kmortem convert vmcore part --to kdump-lzo --split 4   part.1 to part.4
  kmortem convert vmcore - --to flattened-kdump-zstd | ssh host 'cat > vmcore.flat'
  kmortem convert vmcore.flat vmcore --to rearranged     as makedumpfile -R
  kmortem convert vmcore vmcore.zst                      an archive; read as it is, or zstd -d
  kmortem convert vmcore vmcore.zst --base /var/crash/bases
  kmortem convert vmcore ram.raw                         memory alone; ram.raw.map says what is what

Exit codes: 0 it is written, 1 it could not be, 2 the command line was not understood,
130 it was interrupted.";

pub(crate) fn run(args: &ConvertArgs) -> Result<ExitCode, CliError> {
    let Some((out, inputs)) = args.files.split_last() else { return Err(CliError::NoDump) };
    let form = match checked_form(args, inputs, out) {
        Ok(form) => form,
        Err(what) => {
            writeln!(io::stderr(), "kmortem: {what}; `kmortem convert --help` shows how")?;
            return Ok(ExitCode::from(2));
        }
    };
    let progress = Arc::new(Progress::default());
    let stop = Arc::clone(&progress);
    // Without it Ctrl-C ends the command at once, and the temporary file stays.
    let _ = ctrlc::set_handler(move || stop.stop.store(true, Ordering::Relaxed));
    let job = Job { args, form, out, progress };
    let start = Instant::now();
    let done = match form.layout {
        Layout::Same => job.copy(&inputs[0]),
        _ => job.convert(inputs),
    };
    match done {
        Ok(mut report) => {
            report.seconds = start.elapsed().as_secs_f64();
            tell(&report, args.json, is_stdout(out))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(CliError::Write(WriteError::Interrupted)) => {
            writeln!(io::stderr(), "kmortem: interrupted; nothing was left behind")?;
            Ok(ExitCode::from(130))
        }
        Err(error) => Err(error),
    }
}

/// The form that is meant, or what is wrong with the command line.
fn checked_form(args: &ConvertArgs, inputs: &[PathBuf], out: &Path) -> Result<Form, String> {
    let Some(form) = args.to.or_else(|| Form::guess(out)) else {
        return Err(format!(
            "{} does not say which form is meant: name one with --to",
            out.display()
        ));
    };
    let name = form.name();
    let is_kdump = matches!(form.layout, Layout::Kdump(_));
    let is_archive = form.layout == Layout::Archive;
    if args.base.is_some() && !is_archive {
        return Err(format!("--base is for archives; {name} has none"));
    }
    if args.level.is_some() && !is_kdump && !is_archive {
        return Err(format!("{name} has no levels"));
    }
    if args.split.is_some() && (!is_kdump || form.flattened) {
        return Err(format!("{name} can't be split, only kdump-compressed dumps can"));
    }
    if form.layout == Layout::Same && inputs.len() > 1 {
        return Err(format!("--to {name} takes one file"));
    }
    if is_stdout(out) {
        if args.split.is_some() || !form.can_stream() {
            return Err(format!(
                "{name} is not written in order and can't go to a pipe; flattened-..., elf and archive can"
            ));
        }
        if io::stdout().is_terminal() {
            return Err("a dump is not written to a terminal".to_owned());
        }
    }
    Ok(form)
}

fn tell(report: &Report, json: bool, data_on_stdout: bool) -> io::Result<()> {
    let text = match json {
        true => serde_json::to_string(report).map_err(io::Error::from)? + "\n",
        false => report.render(),
    };
    match data_on_stdout {
        true => io::stderr().write_all(text.as_bytes()),
        false => io::stdout().write_all(text.as_bytes()),
    }
}

/// One conversion.
struct Job<'a> {
    args: &'a ConvertArgs,
    form: Form,
    out: &'a Path,
    progress: Arc<Progress>,
}

impl Job<'_> {
    /// The dump byte for byte, flattened or not.
    fn copy(&self, input: &Path) -> Result<Report, CliError> {
        let name = input.display().to_string();
        let file = MappedFile::open(input).map_err(|error| CliError::from_open(&name, error))?;
        let source: Arc<dyn Source> = Arc::new(file);
        let bar = Bar::show(&self.progress, source.len());
        let mut notes = Vec::new();
        let summary = self.with_target(self.out, |out| {
            let copied = flattened::copy(&name, &source, &self.progress, out);
            let (bytes, cut_off) = copied.map_err(|error| match error {
                flattened::CopyError::Open(error) => CliError::from(error),
                flattened::CopyError::Write(error) => CliError::Write(error),
            })?;
            notes.extend(cut_off);
            Ok(Summary { bytes, ..Summary::default() })
        })?;
        drop(bar);
        Ok(self.report(vec![self.out.display().to_string()], summary, 4096, notes))
    }

    fn convert(&self, inputs: &[PathBuf]) -> Result<Report, CliError> {
        let mut notes = Vec::new();
        let is_kdump = matches!(self.form.layout, Layout::Kdump(_));
        let check = if is_kdump { Check::Index } else { Check::Pages };
        // All of a machine that Xen ran on, not its dom0 alone.
        let open = OpenOptions { whole_machine: true, ..OpenOptions::default() };
        let image = Image::open_with(inputs, &open)?;
        notes.extend(image.info().oddities.iter().cloned());
        if let Some(why) = image.completeness().incomplete {
            notes.push(format!("the input is incomplete: {why}"));
        }
        if image.is_xen_host() {
            if self.args.base.is_some() {
                let why = "a Xen host's memory is that of many kernels, a base is one's";
                return Err(CliError::Base(why.to_owned()));
            }
            return self.write(ImageContents::new(&image, check), None, notes);
        }
        let wanted = kernel::is_wanted(ImageContents::new(&image, check).header(), !is_kdump);
        if !wanted && self.args.base.is_none() {
            return self.write(ImageContents::new(&image, check), None, notes);
        }
        match Kernel::open(image) {
            Ok(kernel) => {
                let mut contents = ImageContents::new(kernel.image(), check);
                notes.extend(kernel::add(contents.header_mut(), &kernel));
                let base = self.args.base.as_ref();
                let base = base.map(|dir| base::prepare(dir, &kernel, self.out)).transpose()?;
                if let Some(base) = base.as_ref().filter(|base| base.is_new) {
                    notes.push(format!("the base {} was made of this dump", base.name));
                }
                self.write(contents, base, notes)
            }
            Err(error) if self.args.base.is_some() => {
                Err(CliError::Base(format!("no base without the kernel: {error}")))
            }
            Err(error) => {
                notes.push(format!("the headers lack what only the kernel knows: {error}"));
                let image = Image::open_with(inputs, &open)?;
                self.write(ImageContents::new(&image, check), None, notes)
            }
        }
    }

    fn write(
        &self,
        mut contents: ImageContents<'_>,
        base: Option<BaseFile>,
        mut notes: Vec<String>,
    ) -> Result<Report, CliError> {
        if !matches!(self.form.layout, Layout::Kdump(_)) {
            contents.note_lost();
        }
        let total = contents.runs().map(|(run, _)| run.end - run.start).sum();
        let bar = Bar::show(&self.progress, total);
        let written = match self.write_form(&contents, base.as_ref(), &mut notes) {
            Err(CliError::Write(WriteError::Unreadable { runs, .. })) if !is_stdout(self.out) => {
                // Damage shows when it is read. The form needs to know of it before.
                contents.set_unreadable(runs);
                self.progress.done.store(0, Ordering::Relaxed);
                self.write_form(&contents, base.as_ref(), &mut notes)
            }
            written => written,
        };
        drop(bar);
        let (files, summary) = written?;
        Ok(self.report(files, summary, contents.header().page_size, notes))
    }

    fn report(
        &self,
        files: Vec<String>,
        summary: Summary,
        page_size: u64,
        notes: Vec<String>,
    ) -> Report {
        let filtered = summary.filtered();
        Report { files, form: self.form.name(), page_size, summary, filtered, seconds: 0.0, notes }
    }

    fn options(&self) -> Options {
        let mut options = Options::default();
        if let Some(threads) = self.args.threads {
            options.threads = threads as usize;
        }
        options
    }

    fn write_form(
        &self,
        contents: &ImageContents<'_>,
        base: Option<&BaseFile>,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<String>, Summary), CliError> {
        let (options, progress) = (self.options(), &*self.progress);
        let one = |summary| (vec![self.out.display().to_string()], summary);
        match self.form.layout {
            Layout::Kdump(codec) => {
                let compression = codec.map(|codec| (codec, self.args.level));
                if let Some(parts) = self.args.split {
                    return self.write_parts(contents, compression, parts);
                }
                self.with_target(self.out, |out| {
                    Ok(kdump::write(contents, compression, None, &options, progress, out)?)
                })
                .map(one)
            }
            Layout::Elf => self
                .with_target(self.out, |out| Ok(elf::write(contents, &options, progress, out)?))
                .map(one),
            Layout::Archive => self.write_archive(contents, base).map(one),
            Layout::Raw => self.write_raw(contents, notes),
            Layout::Same => Err(CliError::Write(WriteError::Unfit("not a form of memory".into()))),
        }
    }

    fn write_archive(
        &self,
        contents: &ImageContents<'_>,
        base: Option<&BaseFile>,
    ) -> Result<Summary, CliError> {
        let options = self.options();
        let bytes = base.map(|base| base.file.bytes(0, base.file.len() as usize));
        let bytes = bytes.transpose().map_err(|error| CliError::Base(error.to_string()))?;
        let archive = Archive {
            level: self.args.level.unwrap_or(archive::DEFAULT_LEVEL),
            threads: options.threads,
            base: base.zip(bytes.as_deref()).map(|(base, bytes)| archive::Base {
                name: &base.name,
                dir: base.dir.as_deref(),
                bytes,
            }),
        };
        let write = |stream: &mut dyn Write| {
            let body = |out: &mut dyn Output| elf::write(contents, &options, &self.progress, out);
            let (summary, bytes) = archive.write(stream, &self.progress, body)?;
            Ok::<Summary, WriteError>(Summary { bytes, ..summary })
        };
        if is_stdout(self.out) {
            return Ok(write(&mut BufWriter::with_capacity(1 << 18, io::stdout().lock()))?);
        }
        let (target, mut file) = create(self.out, self.args.force)?;
        let summary = write(&mut file)?;
        target.commit(&file, self.args.force).map_err(WriteError::Output)?;
        Ok(summary)
    }

    fn write_parts(
        &self,
        contents: &ImageContents<'_>,
        compression: kmortem_vmcore::writer::Compression,
        parts: u32,
    ) -> Result<(Vec<String>, Summary), CliError> {
        let mut whole = Summary::default();
        let mut targets = Vec::new();
        for (index, pfns) in kdump::split(contents, parts.into()).into_iter().enumerate() {
            let mut name = self.out.as_os_str().to_owned();
            name.push(format!(".{}", index + 1));
            let path = PathBuf::from(name);
            let (target, file) = create(&path, self.args.force)?;
            let mut out = FileOutput::new(file);
            let part = kdump::write(
                contents,
                compression,
                Some(pfns),
                &self.options(),
                &self.progress,
                &mut out,
            )?;
            whole.ram = part.ram;
            whole.partial = part.partial;
            whole.written += part.written;
            whole.zero += part.zero;
            whole.lost += part.lost;
            whole.bytes += part.bytes;
            targets.push((target, out.into_file()));
        }
        let mut names = Vec::new();
        for (target, mut file) in targets {
            if whole.lost > 0 {
                kdump::mark_incomplete(&mut file).map_err(WriteError::Output)?;
            }
            names.push(target.path().display().to_string());
            target.commit(&file, self.args.force).map_err(WriteError::Output)?;
        }
        Ok((names, whole))
    }

    fn write_raw(
        &self,
        contents: &ImageContents<'_>,
        notes: &mut Vec<String>,
    ) -> Result<(Vec<String>, Summary), CliError> {
        let mut name = self.out.as_os_str().to_owned();
        name.push(".map");
        let map = PathBuf::from(name);
        let (map_target, mut map_file) = create(&map, self.args.force)?;
        let (options, progress) = (self.options(), &*self.progress);
        let summary =
            self.with_target(self.out, |out| Ok(raw::write(contents, &options, progress, out)?))?;
        let mut lines = BufWriter::new(&mut map_file);
        for (run, place) in raw::map(contents) {
            writeln!(lines, "{:#x}-{:#x} {place}", run.start, run.end)
                .map_err(WriteError::Output)?;
        }
        lines.flush().map_err(WriteError::Output)?;
        drop(lines);
        map_target.commit(&map_file, self.args.force).map_err(WriteError::Output)?;
        notes.push(format!(
            "a raw file reads as zeros where memory is absent: {} says where",
            map.display()
        ));
        Ok((vec![self.out.display().to_string(), map.display().to_string()], summary))
    }

    /// Writes to a file that has its name only when it is whole, or to standard output.
    fn with_target(
        &self,
        path: &Path,
        write: impl FnOnce(&mut dyn Output) -> Result<Summary, CliError>,
    ) -> Result<Summary, CliError> {
        if is_stdout(path) {
            let stdout = BufWriter::with_capacity(1 << 18, io::stdout().lock());
            return match self.form.flattened {
                true => write(&mut Flattened::new(stdout)),
                false => write(&mut Stream::new(stdout)),
            };
        }
        let (target, file) = create(path, self.args.force)?;
        let (summary, file) = if self.form.flattened {
            let mut out = Flattened::new(BufWriter::with_capacity(1 << 18, file));
            let summary = write(&mut out)?;
            let file = out.into_inner().into_inner().map_err(|error| error.into_error());
            (summary, file.map_err(WriteError::Output)?)
        } else {
            let mut out = FileOutput::new(file);
            (write(&mut out)?, out.into_file())
        };
        // A flattened stream is longer than the dump in it.
        let size = file.metadata().map_err(WriteError::Output)?.len();
        target.commit(&file, self.args.force).map_err(WriteError::Output)?;
        Ok(Summary { bytes: size, ..summary })
    }
}

fn create(path: &Path, force: bool) -> Result<(Target, File), CliError> {
    Target::create(path, force).map_err(|error| CliError::Create { path: path.to_owned(), error })
}
