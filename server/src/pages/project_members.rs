//! `/projects/{id}/members`: who labels in a project, in which languages, and who administers it.
//!
//! Admins of everything assign whom they like and invite new people. An admin of the project assigns
//! labelers who have an account, by their address: the list of all accounts is not theirs to see, and
//! neither is whom the project's admins are theirs to say.

use askama::Template;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Redirect, Response};
use axum_extra::extract::Form as HtmlForm;
use serde_json::json;
use sqlx::PgConnection;

use crate::auth::visitor::{ProjectAdmin, Visitor};
use crate::domain::audit::AuditAction;
use crate::domain::ids::{AccountId, ProjectId};
use crate::domain::member_list;
use crate::domain::role::{MemberRole, Role};
use crate::error::{AppError, AppResult, FieldError};
use crate::message::Message;
use crate::pages::accounts::make_link;
use crate::pages::projects::status_of;
use crate::state::AppState;
use crate::store;
use crate::store::accounts::Account;
use crate::store::audit_events::NewEvent;
use crate::store::members::Member;
use crate::store::projects::Project;
use crate::web::page::{Page, render};

#[derive(Template)]
#[template(path = "projects/members.html")]
struct MembersPage {
    page: Page,
    project: Project,
    is_open: bool,
    members: Vec<Member>,
    /// Accounts to choose from, for those who may see all.
    accounts: Vec<Account>,
    /// Whether the visitor may invite people and say who administers the project.
    may_appoint: bool,
    form: MemberForm,
    errors: Vec<FieldError>,
    lines: String,
    line_errors: Vec<FieldError>,
    /// Whom an import invited, with the link for each; and how many it assigned.
    imported: Option<(Vec<(String, String)>, usize)>,
}

/// The form that assigns somebody, or changes what they do.
#[derive(Debug, Default, serde::Deserialize)]
pub struct MemberForm {
    /// An address, or for admins of everything a name.
    #[serde(default)]
    who: String,
    #[serde(default)]
    languages: String,
    #[serde(default)]
    role: String,
}

/// What a page shows beside the members.
#[derive(Default)]
struct Shown {
    form: MemberForm,
    errors: Vec<FieldError>,
    lines: String,
    line_errors: Vec<FieldError>,
    imported: Option<(Vec<(String, String)>, usize)>,
}

impl MembersPage {
    fn error_of(&self, field: &str) -> Option<String> {
        let error = self.errors.iter().find(|error| error.field == field);
        error.map(|error| self.page.say(&error.message))
    }

    fn line_complaint(&self, error: &FieldError) -> String {
        let line = self.page.t_with("projects-members-line", "n", &error.field);
        let message = self.page.say(&error.message);
        self.page
            .t_args("error-field", &[("field", line), ("message", message)])
    }

    fn roles(&self) -> Vec<(&'static str, String)> {
        let roles = MemberRole::ALL.iter();
        roles
            .map(|role| (role.as_str(), self.page.t(&format!("projects-role-{role}"))))
            .collect()
    }

    fn role_of(&self, member: &Member) -> &'static str {
        match member.is_admin {
            true => MemberRole::Admin.as_str(),
            false => MemberRole::Labeler.as_str(),
        }
    }

    fn role_text(&self, member: &Member) -> String {
        self.page
            .t(&format!("projects-role-{}", self.role_of(member)))
    }

    /// Whether the visitor may change or remove a member.
    fn may_change(&self, member: &Member) -> bool {
        self.may_appoint || !member.is_admin
    }
}

/// `GET /projects/{id}/members`.
pub async fn index(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
) -> AppResult<Response> {
    show(&state, page, &visitor, id, Shown::default()).await
}

async fn show(
    state: &AppState,
    page: Page,
    visitor: &Visitor,
    id: ProjectId,
    shown: Shown,
) -> AppResult<Response> {
    let mut db = state.db.acquire().await?;
    let project = store::members::find_administered(&mut db, visitor.account_id, id).await?;
    let settings = store::projects::find_settings(&mut db, id).await?;
    let settings = settings.ok_or(AppError::NotFound("project"))?;
    let members = store::members::list(&mut db, id).await?;
    let accounts = match visitor.is_admin {
        true => store::accounts::list(&mut db).await?,
        false => Vec::new(),
    };
    drop(db);
    let is_choice = |account: &Account| {
        let is_member = members.iter().any(|member| member.account_id == account.id);
        !is_member && !account.is_simulated && account.disabled_at.is_none()
    };
    let accounts = accounts.into_iter().filter(is_choice).collect();
    let status = match shown.errors.is_empty() {
        true => status_of(&shown.line_errors),
        false => status_of(&shown.errors),
    };
    let view = MembersPage {
        page: page.titled("projects-members-title"),
        project,
        is_open: settings.is_open,
        accounts,
        members,
        may_appoint: visitor.is_admin,
        form: shown.form,
        errors: shown.errors,
        lines: shown.lines,
        line_errors: shown.line_errors,
        imported: shown.imported,
    };
    Ok((status, render(&view)?).into_response())
}

/// `POST /projects/{id}/members`: assigns somebody, or changes what a member does.
pub async fn create(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    HtmlForm(form): HtmlForm<MemberForm>,
) -> AppResult<Response> {
    let mut transaction = state.db.begin().await?;
    store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    match assign(&mut transaction, &visitor, id, &form).await {
        Ok(()) => {
            transaction.commit().await?;
            Ok(Redirect::to(&format!("/projects/{id}/members")).into_response())
        }
        Err(AppError::Invalid(errors)) => {
            drop(transaction);
            let shown = Shown {
                form,
                errors,
                ..Shown::default()
            };
            show(&state, page, &visitor, id, shown).await
        }
        Err(error) => Err(error),
    }
}

/// Assigns the person of a form.
async fn assign(
    db: &mut PgConnection,
    visitor: &Visitor,
    id: ProjectId,
    form: &MemberForm,
) -> AppResult<()> {
    let mut errors = Vec::new();
    let mut note = |field: &str, message: Message| errors.push(FieldError::new(field, message));
    let languages = member_list::read_languages(&form.languages);
    let languages = languages.map_err(|message| note("languages", message));
    let role = form.role.parse::<MemberRole>();
    let role = role.map_err(|_| note("role", Message::new("error-unknown-choice")));
    let account = find_account(&mut *db, visitor, &form.who).await?;
    if account.is_none() {
        let key = match visitor.is_admin {
            true => "error-no-such-account",
            false => "error-no-such-address",
        };
        errors.push(FieldError::new("who", Message::new(key)));
    }
    let (Ok(languages), Ok(role), Some(account)) = (languages, role, account) else {
        return Err(AppError::Invalid(errors));
    };
    write(db, visitor, id, &account, &languages, role).await
}

/// Somebody by their address. Admins of everything may also give a name that one account alone has.
async fn find_account(
    db: &mut PgConnection,
    visitor: &Visitor,
    who: &str,
) -> sqlx::Result<Option<Account>> {
    if let Some(account) = store::accounts::find_by_email(&mut *db, who).await? {
        return Ok(Some(account));
    }
    if !visitor.is_admin {
        return Ok(None);
    }
    let mut named = store::accounts::list(db).await?;
    named.retain(|account| account.name == who.trim() && !account.is_simulated);
    Ok(if named.len() == 1 { named.pop() } else { None })
}

/// Writes a membership with its event.
async fn write(
    db: &mut PgConnection,
    visitor: &Visitor,
    id: ProjectId,
    account: &Account,
    languages: &[String],
    role: MemberRole,
) -> AppResult<()> {
    let old = store::members::find_role(&mut *db, id, account.id).await?;
    let touches_admin = old == Some(MemberRole::Admin) || role == MemberRole::Admin;
    if touches_admin && !visitor.is_admin {
        return Err(AppError::invalid(
            "role",
            Message::new("error-appoints-admins"),
        ));
    }
    let by = visitor.account_id;
    store::members::assign(&mut *db, id, account.id, languages, Some(by)).await?;
    store::members::set_role(&mut *db, id, account.id, role).await?;
    let event = NewEvent::by(by, AuditAction::MemberAssigned).within(id);
    let event = event.to("account", account.id.0);
    let event = event.with(json!({"role": role, "languages": languages}));
    Ok(store::audit_events::record(db, event).await?)
}

/// `POST /projects/{id}/members/{account_id}/remove`: what they labelled stays.
pub async fn remove(
    State(state): State<AppState>,
    ProjectAdmin(visitor): ProjectAdmin,
    Path((id, account_id)): Path<(ProjectId, AccountId)>,
) -> AppResult<Redirect> {
    let mut transaction = state.db.begin().await?;
    store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    let role = store::members::find_role(&mut transaction, id, account_id).await?;
    let role = role.ok_or(AppError::NotFound("member"))?;
    if role == MemberRole::Admin && !visitor.is_admin {
        return Err(AppError::invalid(
            "role",
            Message::new("error-appoints-admins"),
        ));
    }
    store::members::remove(&mut transaction, id, account_id).await?;
    let event = NewEvent::by(visitor.account_id, AuditAction::MemberRemoved).within(id);
    let event = event.to("account", account_id.0);
    store::audit_events::record(&mut transaction, event).await?;
    transaction.commit().await?;
    Ok(Redirect::to(&format!("/projects/{id}/members")))
}

/// The form that imports a list.
#[derive(serde::Deserialize)]
pub struct ImportForm {
    #[serde(default)]
    lines: String,
}

/// `POST /projects/{id}/members/import`: assigns everybody of a list as labelers, whole or not at all.
/// Whoever has no account is invited; the answer shows the links, once.
pub async fn import(
    State(state): State<AppState>,
    page: Page,
    ProjectAdmin(visitor): ProjectAdmin,
    Path(id): Path<ProjectId>,
    HtmlForm(form): HtmlForm<ImportForm>,
) -> AppResult<Response> {
    let mut transaction = state.db.begin().await?;
    store::members::find_administered(&mut transaction, visitor.account_id, id).await?;
    let listed = member_list::read(&form.lines);
    let done = match listed {
        Ok(listed) => carry_out(&state, &mut transaction, &visitor, id, &listed).await,
        Err(errors) => Err(AppError::Invalid(errors)),
    };
    let shown = match done {
        Ok(imported) => {
            transaction.commit().await?;
            Shown {
                imported: Some(imported),
                ..Shown::default()
            }
        }
        Err(AppError::Invalid(line_errors)) => {
            drop(transaction);
            Shown {
                line_errors,
                lines: form.lines,
                ..Shown::default()
            }
        }
        Err(error) => return Err(error),
    };
    show(&state, page, &visitor, id, shown).await
}

/// Assigns everybody; returns address and link of the new accounts, and how many were assigned.
async fn carry_out(
    state: &AppState,
    db: &mut PgConnection,
    visitor: &Visitor,
    id: ProjectId,
    listed: &[member_list::Listed],
) -> AppResult<(Vec<(String, String)>, usize)> {
    let (mut links, mut errors) = (Vec::new(), Vec::new());
    for one in listed {
        let found = store::accounts::find_by_email(&mut *db, &one.email).await?;
        let account = match found {
            Some(account) => account,
            None if visitor.is_admin => match invite(state, db, visitor, one).await {
                Ok((account, link)) => {
                    links.push((one.email.clone(), link));
                    account
                }
                Err(AppError::Invalid(wrong)) => {
                    let message = wrong.into_iter().next().map(|error| error.message);
                    errors.extend(message.map(|text| FieldError::new(one.line.to_string(), text)));
                    continue;
                }
                Err(error) => return Err(error),
            },
            None => {
                let message = Message::new("error-no-such-address");
                errors.push(FieldError::new(one.line.to_string(), message));
                continue;
            }
        };
        // Whoever administers the project goes on doing so.
        let old = store::members::find_role(&mut *db, id, account.id).await?;
        if old == Some(MemberRole::Admin) {
            continue;
        }
        let role = MemberRole::Labeler;
        write(&mut *db, visitor, id, &account, &one.languages, role).await?;
    }
    match errors.is_empty() {
        true => Ok((links, listed.len())),
        false => Err(AppError::Invalid(errors)),
    }
}

/// Makes an account for a labeler, with its link.
async fn invite(
    state: &AppState,
    db: &mut PgConnection,
    visitor: &Visitor,
    one: &member_list::Listed,
) -> AppResult<(Account, String)> {
    let roles = [Role::Labeler];
    let made = store::accounts::insert(&mut *db, &one.email, &one.name, &roles, false).await?;
    let event = NewEvent::by(visitor.account_id, AuditAction::AccountCreated);
    let event = event.to("account", made.0).with(json!({"roles": roles}));
    store::audit_events::record(&mut *db, event).await?;
    let link = make_link(state, &mut *db, made, visitor.account_id).await?;
    let account = store::accounts::find(&mut *db, made).await?;
    Ok((account.ok_or(AppError::NotFound("account"))?, link))
}
