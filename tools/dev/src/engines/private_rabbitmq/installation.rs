//! RabbitMQ's programs: the system's, or those in a folder of another release, and how one of them is run with a node's data. Which node
//! that is, is decided elsewhere.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result};

use super::debian_root;
use crate::workspace::Account;

/// Not /usr/sbin: what is there switches to the system's user and folder.
const FOLDERS: [&str; 3] = ["/usr/lib/rabbitmq/bin", "/opt/homebrew/sbin", "/usr/local/sbin"];

/// Enters a folder of another release with the data of a node, at the same path, and becomes the account.
const ENTER: &str = r#"set -e; root=$1 data=$2 ids=$3; shift 3
mount -t proc proc "$root/proc"; mount --rbind /dev "$root/dev"
mkdir -p "$root$data"; mount --bind "$data" "$root$data"
exec chroot --userspec="$ids" --groups= "$root" "$@""#;

pub(super) enum Installation {
    /// The folder of the programs.
    System(PathBuf),
    /// The root that they run in.
    Root(PathBuf),
}

impl Installation {
    pub(super) async fn of(version: Option<&str>) -> Result<Self> {
        match version {
            None => Ok(Self::System(system().context("RabbitMQ is not installed")?)),
            Some(version) => Ok(Self::Root(debian_root::folder(version).await?)),
        }
    }

    /// A program of RabbitMQ or of Erlang. Whoever starts it gives it [`Self::account`].
    pub(super) fn command(&self, program: &str, data: &Path, account: Option<&Account>) -> Command {
        match self {
            Self::System(folder) => {
                let own = folder.join(program);
                // Erlang's are on the path.
                let mut command = Command::new(if own.exists() { own } else { PathBuf::from(program) });
                command.current_dir(data);
                command
            }
            Self::Root(root) => {
                let ids =
                    account.map_or_else(|| "0:0".to_owned(), |account| format!("{}:{}", account.uid, account.gid));
                let [first, rest @ ..] = debian_root::NAMESPACE;
                let mut command = Command::new(first);
                command.args(rest).args(["sh", "-c", ENTER, "sh"]).args([root.as_path(), data]).arg(ids);
                command.arg(program).env("PATH", "/usr/lib/rabbitmq/bin:/usr/sbin:/usr/bin:/sbin:/bin");
                command
            }
        }
    }

    /// The account to start a command with: mounting takes root, and the command becomes the account by itself then.
    pub(super) fn account<'a>(&self, account: Option<&'a Account>) -> Option<&'a Account> {
        match self {
            Self::System(_) => account,
            Self::Root(_) => None,
        }
    }
}

pub(super) fn system() -> Option<PathBuf> {
    FOLDERS.iter().map(PathBuf::from).find(|folder| folder.join("rabbitmq-server").exists())
}
