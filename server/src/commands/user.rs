//! `plackett user`: accounts from the command line, so that the first admin can be made.

use crate::commands::database::Database;
use crate::config::DataConfig;
use crate::domain::audit::AuditAction;
use crate::domain::ids::AccountId;
use crate::domain::role::Role;
use crate::store;
use crate::store::audit_events::NewEvent;

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

/// Carries it out, and prints what it made once that is certain.
async fn carry_out(pool: &sqlx::PgPool, command: UserCommand) -> anyhow::Result<()> {
    let mut db = pool.begin().await?;
    let said = match command {
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
            note(&mut db, AuditAction::AccountCreated, id).await?;
            make_link(&mut db, id, &public_url).await?
        }
        UserCommand::Link { email, public_url } => {
            let account = find(&mut db, &email).await?;
            make_link(&mut db, account.id, &public_url).await?
        }
        UserCommand::Token { email, label } => {
            let account = find(&mut db, &email).await?;
            let token = store::api_tokens::create(&mut db, account.id, &label).await?;
            note(&mut db, AuditAction::TokenCreated, account.id).await?;
            token.reveal().to_owned()
        }
        UserCommand::List => list(&mut db).await?,
    };
    db.commit().await?;
    println!("{said}");
    Ok(())
}

/// One line for each account.
async fn list(db: &mut sqlx::PgConnection) -> sqlx::Result<String> {
    let mut lines = Vec::new();
    for account in store::accounts::list(db).await? {
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
        lines.push(format!(
            "{}\t{}\t{}\t{made}\t{state}",
            account.email,
            account.name,
            account.roles.join(",")
        ));
    }
    Ok(lines.join("\n"))
}

/// Makes a sign-in link and notes that it was made.
async fn make_link(
    db: &mut sqlx::PgConnection,
    id: AccountId,
    public_url: &str,
) -> anyhow::Result<String> {
    let hours = store::sign_in_links::INVITE_HOURS;
    let token = store::sign_in_links::create(&mut *db, id, None, hours).await?;
    note(db, AuditAction::LinkCreated, id).await?;
    let url = public_url.trim_end_matches('/');
    Ok(format!("{url}/sign-in/{}", token.reveal()))
}

/// Notes what was done to an account.
async fn note(db: &mut sqlx::PgConnection, action: AuditAction, id: AccountId) -> sqlx::Result<()> {
    let event = NewEvent::by_command_line(action).to("account", id.0);
    store::audit_events::record(db, event).await
}

async fn find(
    db: &mut sqlx::PgConnection,
    email: &str,
) -> anyhow::Result<store::accounts::Account> {
    store::accounts::find_by_email(db, email)
        .await?
        .ok_or_else(|| anyhow::anyhow!("no account has the address {email}"))
}
