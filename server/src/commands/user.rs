//! `plackett user`: accounts from the command line, so that the first admin can be made.

use crate::commands::database::Database;
use crate::config::DataConfig;
use crate::domain::role::Role;
use crate::store;

/// What to do with accounts.
#[derive(Debug, clap::Subcommand)]
pub enum UserCommand {
    /// Make an account and print its single-use invite link.
    Add {
        /// E-mail address to sign in with.
        email: String,
        /// The name shown to others. Default: the part of the address before the @.
        #[arg(long)]
        name: Option<String>,
        /// What the account may do; give it several times for several roles.
        #[arg(long = "role", required = true)]
        roles: Vec<Role>,
        /// The address of the server, for the link.
        #[arg(
            long,
            env = "PLACKETT_PUBLIC_URL",
            default_value = "http://127.0.0.1:8080"
        )]
        public_url: String,
    },
    /// Print a fresh single-use sign-in link for an account.
    Link {
        /// E-mail address of the account.
        email: String,
        /// The address of the server, for the link.
        #[arg(
            long,
            env = "PLACKETT_PUBLIC_URL",
            default_value = "http://127.0.0.1:8080"
        )]
        public_url: String,
    },
    /// Print a new bearer token for the JSON API.
    Token {
        /// E-mail address of the account.
        email: String,
        /// What the token is for.
        #[arg(long, default_value = "command line")]
        label: String,
    },
    /// List accounts.
    List,
}

/// Carries out one of them.
///
/// # Errors
/// A sentence: the address is taken, unknown, or the database does not answer.
pub async fn run(data: &DataConfig, command: UserCommand) -> anyhow::Result<()> {
    let database = Database::open(data, 2).await?;
    let done = carry_out(&database.pool, command).await;
    database.close().await;
    done
}

async fn carry_out(pool: &sqlx::PgPool, command: UserCommand) -> anyhow::Result<()> {
    let mut db = pool.acquire().await?;
    match command {
        UserCommand::Add {
            email,
            name,
            roles,
            public_url,
        } => {
            let name =
                name.unwrap_or_else(|| email.split('@').next().unwrap_or_default().to_owned());
            let id = store::accounts::insert(&mut db, &email, &name, &roles, false)
                .await
                .map_err(|error| anyhow::anyhow!("{error}"))?;
            let token =
                store::sign_in_links::create(&mut db, id, None, store::sign_in_links::INVITE_HOURS)
                    .await?;
            println!(
                "{}/sign-in/{}",
                public_url.trim_end_matches('/'),
                token.reveal()
            );
        }
        UserCommand::Link { email, public_url } => {
            let account = find(&mut db, &email).await?;
            let hours = store::sign_in_links::INVITE_HOURS;
            let token = store::sign_in_links::create(&mut db, account.id, None, hours).await?;
            println!(
                "{}/sign-in/{}",
                public_url.trim_end_matches('/'),
                token.reveal()
            );
        }
        UserCommand::Token { email, label } => {
            let account = find(&mut db, &email).await?;
            let token = store::api_tokens::create(&mut db, account.id, &label).await?;
            println!("{}", token.reveal());
        }
        UserCommand::List => {
            for account in store::accounts::list(&mut db).await? {
                let state = if account.disabled_at.is_some() {
                    "off"
                } else {
                    "on"
                };
                let made = if account.is_simulated {
                    "simulated"
                } else {
                    "person"
                };
                println!(
                    "{}\t{}\t{}\t{made}\t{state}",
                    account.email,
                    account.name,
                    account.roles.join(",")
                );
            }
        }
    }
    Ok(())
}

async fn find(
    db: &mut sqlx::PgConnection,
    email: &str,
) -> anyhow::Result<store::accounts::Account> {
    store::accounts::find_by_email(db, email)
        .await?
        .ok_or_else(|| anyhow::anyhow!("no account has the address {email}"))
}
