//! Who may work on tasks: labelers on those that they lease, and candidates, who have no role yet, on the
//! tasks of their own screening and on nothing else. A handler gets the id of an assignment only through an
//! extractor of this file, so that none can forget to ask.

use axum::extract::{FromRequestParts, RawPathParams};
use axum::http::request::Parts;

use crate::auth::visitor::Visitor;
use crate::domain::ids::{AssignmentId, ProjectId, ScreeningId};
use crate::error::{AppError, FieldError};
use crate::state::AppState;
use crate::store;

/// What somebody without the role is refused with.
const ROLE: AppError = AppError::Forbidden("labeler");

/// Somebody at work on the assignment that the address names. Of a labeler it may still be somebody
/// else's: the store finds it only for its own.
#[derive(Debug, Clone)]
pub struct Worker {
    /// Who.
    pub visitor: Visitor,
    /// On what.
    pub id: AssignmentId,
}

impl FromRequestParts<AppState> for Worker {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        let visitor = find_visitor(parts)?;
        if !visitor.is_labeler {
            // Without a screening, no address is their business.
            find_screening(&visitor, state, None).await?;
        }
        let id = read_id(parts, state).await?;
        if !visitor.is_labeler {
            let mut db = state.db.acquire().await?;
            let who = visitor.account_id;
            if !store::screening_work::is_own_work(&mut db, id, who).await? {
                return Err(ROLE);
            }
        }
        Ok(Self { visitor, id })
    }
}

/// Somebody who may lease in the project that the address names.
#[derive(Debug, Clone)]
pub struct Lessee {
    /// Who.
    pub visitor: Visitor,
    /// Where.
    pub project_id: ProjectId,
    /// Of a candidate: the screening whose tasks they get; of a labeler none, who gets those of the queue.
    pub screening: Option<ScreeningId>,
}

impl FromRequestParts<AppState> for Lessee {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        let visitor = find_visitor(parts)?;
        let screening = if visitor.is_labeler {
            None
        } else {
            // Without a screening anywhere, the address is nobody's business.
            find_screening(&visitor, state, None).await?;
            let project_id = read_id(parts, state).await?;
            Some(find_screening(&visitor, state, Some(project_id)).await?)
        };
        Ok(Self {
            project_id: read_id(parts, state).await?,
            visitor,
            screening,
        })
    }
}

/// Somebody who may ask what they hold: of a candidate only what belongs to their screening.
#[derive(Debug, Clone)]
pub struct Holder {
    /// Who.
    pub visitor: Visitor,
}

impl FromRequestParts<AppState> for Holder {
    type Rejection = AppError;
    async fn from_request_parts(parts: &mut Parts, state: &AppState) -> Result<Self, AppError> {
        let visitor = find_visitor(parts)?;
        if !visitor.is_labeler {
            find_screening(&visitor, state, None).await?;
        }
        Ok(Self { visitor })
    }
}

fn find_visitor(parts: &Parts) -> Result<Visitor, AppError> {
    let visitor = parts.extensions.get::<Visitor>();
    visitor.cloned().ok_or(AppError::SignInRequired)
}

async fn find_screening(
    visitor: &Visitor,
    state: &AppState,
    project_id: Option<ProjectId>,
) -> Result<ScreeningId, AppError> {
    let mut db = state.db.acquire().await?;
    let who = visitor.account_id;
    let found = store::screening_work::find_started(&mut db, who, project_id).await?;
    found.ok_or(ROLE)
}

/// The one id in an address.
async fn read_id<T: std::str::FromStr>(parts: &mut Parts, state: &AppState) -> Result<T, AppError> {
    let given = RawPathParams::from_request_parts(parts, state)
        .await
        .map_err(|error| AppError::Rejected(error.status(), error.body_text().into()))?;
    let (name, text) = given.iter().next().ok_or(AppError::NotFound("page"))?;
    text.parse().map_err(|_| {
        let message = "must be an id: a UUID, as the lists give it, not a short name";
        AppError::Malformed(vec![FieldError::new(name, message)])
    })
}
