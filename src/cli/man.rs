//! `longhaul man`: writes the manual pages, for packages and images.

use std::io::{self, Write};
use std::path::PathBuf;

use super::{Cli, exit};

#[derive(Debug, clap::Args)]
pub struct Options {
    /// The folder, such as /usr/local/share/man/man1. It is made if it does not exist.
    #[arg(env = "LONGHAUL_MAN_DIR", value_name = "DIR")]
    folder: PathBuf,
}

pub fn run(options: &Options, err: &mut dyn Write) -> io::Result<u8> {
    let command = <Cli as clap::CommandFactory>::command();
    let written = std::fs::create_dir_all(&options.folder)
        .and_then(|()| clap_mangen::generate_to(command, &options.folder));
    match written {
        Ok(()) => Ok(exit::OK),
        Err(error) => {
            let text = format!("{}: {error}", options.folder.display());
            exit::say(err, &text, "name a folder that this user may write")?;
            Ok(exit::UNAVAILABLE)
        }
    }
}
