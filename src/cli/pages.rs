//! What a shell and `man` want to know of the command line: made from the same description as `--help`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Command};
use clap_complete::Shell;
use clap_mangen::Man;

use super::failure::{Exit, Failure, print};

/// Arguments of `lucid completions`.
#[derive(Args, Debug)]
pub struct CompletionsArgs {
    /// The shell that is to complete
    #[arg(value_enum)]
    shell: Shell,
}

/// Arguments of `lucid man`.
#[derive(Args, Debug)]
pub struct ManArgs {
    /// The verb to show the page of, such as get or `token issue` [else of the whole program]
    #[arg(value_name = "VERB", num_args = 0..=2)]
    verb: Vec<String>,
    /// Write the pages of the program and every verb into this folder
    #[arg(long, value_name = "FOLDER", conflicts_with = "verb")]
    dir: Option<PathBuf>,
}

/// Prints the completions of a shell.
pub fn completions(args: &CompletionsArgs, mut program: Command) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut program, "lucid", &mut script);
    print(&String::from_utf8_lossy(&script))?;
    Ok(ExitCode::SUCCESS)
}

/// Prints a page of the manual, or writes them all.
pub fn man(args: &ManArgs, program: Command) -> Result<ExitCode, Failure> {
    if let Some(folder) = &args.dir {
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(program, folder))
            .map_err(|error| Failure::of_io(&error, format!("cannot write to {}", folder.display())))?;
        return Ok(ExitCode::SUCCESS);
    }
    let page = args.verb.iter().try_fold(program, |above, name| {
        let verb = above.find_subcommand(name).cloned();
        let (page, typed) = (format!("{}-{name}", above.get_name()), format!("{} {name}", typed(&above)));
        verb.map(|verb| verb.name(page).bin_name(typed)).ok_or_else(|| {
            Failure::new(Exit::Usage, format!("there is no verb `{name}`; lucid --help lists them"))
        })
    })?;
    let mut text = Vec::new();
    Man::new(page).render(&mut text).map_err(|error| Failure::of_io(&error, "cannot make the page"))?;
    print(&String::from_utf8_lossy(&text))?;
    Ok(ExitCode::SUCCESS)
}

/// How a verb is called.
fn typed(verb: &Command) -> &str {
    verb.get_bin_name().unwrap_or_else(|| verb.get_name())
}
