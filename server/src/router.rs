//! The site map: every URL, one line each, and the layers around them at the bottom.

use std::time::Duration;

use axum::Router;
use axum::extract::{DefaultBodyLimit, MatchedPath};
use axum::http::{HeaderName, Method, StatusCode};
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::IntoResponse;
use axum::routing::{get, post, put};
use tower_http::CompressionLevel;
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::csrf::CsrfLayer;
use tower_http::request_id::{MakeRequestUuid, PropagateRequestIdLayer, SetRequestIdLayer};
use tower_http::trace::TraceLayer;

use crate::api;
use crate::auth::{owner, visitor};
use crate::error::AppError;
use crate::pages::{
    account, account_keys, accounts, adjudication, agreement, attention, audit, checkpoints,
    csp_reports, demonstrate, exports, gold, guidelines, health, home, language, models,
    project_form, project_members, project_rules, project_withdrawals, projects, prompts,
    questions, rank, rank_differences, review, run_events, runs, screening, screening_candidates,
    screening_grading, screening_rules, sign_in, snapshots, task, task_opening, tasks, theme, work,
    work_ahead, work_history,
};
use crate::state::AppState;
use crate::web::{assets, conditional, errors, finish, security};

/// Largest body of an ordinary form or JSON request; imports have a limit of their own.
const BODY_LIMIT: usize = 2 * 1024 * 1024;

/// Largest form of a demonstration: all texts of the greatest length, of characters that a form writes in
/// twelve bytes each.
const WRITING_LIMIT: usize = 4 * 1024 * 1024;

/// How hard a page is packed, for its one reader. A ranking page of 77 kB: level 1 gives 11.9 kB in 50 us,
/// this 8.5 kB in 130 us, the usual 6 gives 8.2 kB in 190 us.
const PACKING: CompressionLevel = CompressionLevel::Precise(4);

/// The whole site.
pub fn router(state: AppState) -> Router {
    let upload_limit = state.config.max_upload_mib * 1024 * 1024;
    let site = Router::new()
        .route("/", get(home::index))
        .route("/language", post(language::set))
        .route("/theme", post(theme::set))
        // Signing in, and one's own account.
        .route("/sign-in", get(sign_in::index).post(sign_in::create))
        .route(
            "/sign-in/{token}",
            get(sign_in::link).post(sign_in::use_link),
        )
        .route("/sign-out", post(sign_in::delete))
        .route("/account", get(account::index))
        .route("/account/password", post(account::set_password))
        .route(
            "/account/keys",
            get(account_keys::index).post(account_keys::update),
        )
        .route(
            "/account/sessions/{id}/revoke",
            post(account::revoke_session),
        )
        .route("/account/tokens", post(account::create_token))
        .route("/account/tokens/{id}/revoke", post(account::revoke_token))
        // Labelers.
        .route("/work", get(work::index).post(work::create))
        .route("/work/ahead", post(work_ahead::create))
        .route("/work/history", get(work_history::index))
        .route("/work/last", get(work_history::last))
        .route("/work/{id}/open", post(work_ahead::open))
        .route("/rank/{id}", get(rank::show).post(rank::update))
        .route("/rank/{id}/differences", get(rank_differences::show))
        .route("/questions", get(questions::index).post(questions::create))
        .route("/questions/read", post(questions::mark_read))
        .route(
            "/demonstrate/{id}",
            get(demonstrate::show)
                .post(demonstrate::update)
                .layer(DefaultBodyLimit::max(WRITING_LIMIT)),
        )
        .route("/review/{id}", get(review::show).post(review::update))
        .route("/guidelines", get(guidelines::index))
        .route(
            "/guidelines/acknowledgements",
            post(guidelines::acknowledge),
        )
        .route("/guidelines/refusals", post(guidelines::refuse))
        // Candidates, who are no labelers yet; admins see theirs.
        .route("/screening", get(screening::index))
        .route("/screening/{id}", get(screening::show))
        .route("/screening/{id}/start", post(screening::start))
        .route("/screening/{id}/next", post(screening::next))
        // Admins, of everything or of single projects.
        .route("/questions/{id}/answers", post(questions::answer))
        .route("/answers/{id}/withdraw", post(questions::withdraw))
        .route("/screening/rules", post(screening_rules::set_rules))
        .route(
            "/screening/demonstrations",
            post(screening_candidates::add_demonstration),
        )
        .route(
            "/screening/tasks/{id}/remove",
            post(screening_candidates::remove_task),
        )
        .route("/screening/candidates", post(screening_candidates::invite))
        .route("/screening/{id}/retake", post(screening_candidates::retake))
        .route(
            "/screening/{id}/withdraw",
            post(screening_candidates::withdraw),
        )
        .route(
            "/screening/grading",
            get(screening_grading::index).post(screening_grading::create),
        )
        .route("/adjudication", get(adjudication::index))
        .route(
            "/adjudication/{id}",
            get(adjudication::show).post(adjudication::create),
        )
        .route("/attention", get(attention::index))
        .route("/gold", get(gold::index))
        .route("/gold/{id}/retire", post(gold::retire))
        .route("/projects", get(projects::index).post(projects::create))
        .route("/projects/new", get(projects::new))
        .route("/projects/{id}", get(projects::show).post(projects::update))
        .route("/projects/{id}/archived", post(projects::set_archived))
        .route(
            "/projects/{id}/form",
            get(project_form::index).post(project_form::update),
        )
        .route(
            "/projects/{id}/rules/{subject}",
            get(project_rules::index).post(project_rules::update),
        )
        .route(
            "/projects/{id}/members",
            get(project_members::index).post(project_members::create),
        )
        .route(
            "/projects/{id}/members/import",
            post(project_members::import),
        )
        .route(
            "/projects/{id}/members/{account_id}/remove",
            post(project_members::remove),
        )
        .route(
            "/projects/{id}/withdrawals",
            get(project_withdrawals::index).post(project_withdrawals::create),
        )
        .route(
            "/projects/{id}/withdrawals/{account_id}/end",
            post(project_withdrawals::end),
        )
        .route("/accounts", get(accounts::index).post(accounts::create))
        .route("/accounts/{id}/link", post(accounts::link))
        .route("/accounts/{id}/roles", post(accounts::set_roles))
        .route("/accounts/{id}/disabled", post(accounts::set_disabled))
        .route("/prompts", get(prompts::index))
        .route(
            "/prompts/import",
            post(prompts::create).layer(DefaultBodyLimit::max(upload_limit)),
        )
        .route("/tasks", get(tasks::index))
        .route(
            "/tasks/new",
            get(task_opening::new).post(task_opening::create),
        )
        .route("/tasks/{id}", get(task::show))
        .route("/tasks/{id}/gold", post(gold::create))
        .route("/tasks/{id}/close", post(tasks::close))
        .route("/tasks/{id}/reopen", post(tasks::reopen))
        .route("/agreement", get(agreement::index))
        .route("/agreement/export", get(agreement::export))
        .route("/agreement/labelers/{id}", get(agreement::show))
        .route("/models", get(models::index))
        .route("/models/export", get(models::export))
        .route("/snapshots", get(snapshots::index).post(snapshots::create))
        .route("/snapshots/{id}", get(snapshots::show))
        .route("/snapshots/{id}/export", get(snapshots::export))
        .route("/snapshots/{id}/exports", post(exports::create))
        .route("/exports/{id}", get(exports::show))
        .route("/audit", get(audit::index))
        .route("/audit/export", get(audit::export))
        // Operators.
        .route("/runs", get(runs::index).post(runs::create))
        .route("/runs/new", get(runs::new))
        .route("/runs/{id}", get(runs::show))
        .route("/runs/{id}/cancel", post(runs::cancel))
        .route("/runs/{id}/resume", post(runs::resume))
        .route("/runs/{id}/events", get(run_events::index))
        .route("/runs/{id}/files/{name}", get(runs::file))
        .route("/checkpoints", get(checkpoints::index))
        .route("/checkpoints/{id}", get(checkpoints::show))
        // Programs.
        .route("/api/v1/openapi.json", get(api::openapi::show))
        .route("/api/v1/projects", get(api::projects::index))
        .route(
            "/api/v1/projects/{id}/assignments",
            post(api::assignments::create),
        )
        .route("/api/v1/projects/{id}/agreement", get(api::agreement::show))
        .route("/api/v1/projects/{id}/models", get(api::models::show))
        .route("/api/v1/assignments", get(api::assignments::index))
        .route("/api/v1/assignments/{id}", get(api::assignments::show))
        .route(
            "/api/v1/assignments/{id}/draft",
            put(api::assignments::save_draft),
        )
        .route(
            "/api/v1/assignments/{id}/submission",
            post(api::assignments::submit),
        )
        .route(
            "/api/v1/assignments/{id}/skip",
            post(api::assignments::skip),
        )
        .route("/api/v1/snapshots", get(api::snapshots::index))
        .route("/api/v1/snapshots/{id}", get(api::snapshots::show))
        .route("/api/v1/snapshots/{id}/export", get(api::snapshots::export))
        .route("/api/v1/snapshots/{id}/exports", post(api::exports::create))
        .route("/api/v1/exports/{id}", get(api::exports::show))
        .route("/api/v1/exports/{id}/file", get(api::exports::file))
        // The house itself.
        .route(
            "/static/{version}/{*path}",
            // Fetched once and kept: worth more work than a page, which is packed below.
            get(assets::serve).layer(CompressionLayer::new()),
        )
        .route(
            "/csp-reports",
            post(csp_reports::create).layer(DefaultBodyLimit::max(csp_reports::LONGEST)),
        )
        .route("/healthz", get(health::healthz))
        .route("/readyz", get(health::readyz))
        .route("/metrics", get(health::metrics))
        .fallback(async || AppError::NotFound("page"))
        .layer(DefaultBodyLimit::max(BODY_LIMIT));
    add_layers(site, state)
}

/// The layers, innermost first.
fn add_layers(site: Router<AppState>, state: AppState) -> Router {
    let request_id = HeaderName::from_static(errors::REQUEST_ID);
    site.layer(from_fn(owner::check))
        .layer(from_fn_with_state(state.clone(), visitor::identify))
        .layer(CsrfLayer::new())
        .layer(CatchPanicLayer::custom(|_| {
            AppError::from(anyhow::anyhow!("a handler panicked")).into_response()
        }))
        .layer(from_fn_with_state(
            state.under_way.clone(),
            finish::to_the_end,
        ))
        .layer(from_fn(errors::render))
        .layer(from_fn(security::add_headers))
        .layer(CompressionLayer::new().quality(PACKING))
        .layer(from_fn(conditional::weaken_packed))
        .layer(from_fn(count_requests))
        .layer(PropagateRequestIdLayer::new(request_id.clone()))
        .layer(TraceLayer::new_for_http().make_span_with(request_span))
        .layer(SetRequestIdLayer::new(request_id, MakeRequestUuid))
        .with_state(state)
}

/// One span for each request.
fn request_span(request: &axum::extract::Request) -> tracing::Span {
    let path = errors::loggable(request.uri().path());
    let id = request
        .headers()
        .get(errors::REQUEST_ID)
        .and_then(|id| id.to_str().ok())
        .unwrap_or("");
    tracing::info_span!("request", method = %request.method(), path, id)
}

/// Counts requests and their time by route, for `/metrics`. Labels come from fixed sets, since a
/// label that askers choose would let them fill the memory.
async fn count_requests(
    request: axum::extract::Request,
    next: axum::middleware::Next,
) -> axum::response::Response {
    let started = std::time::Instant::now();
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>();
    let route = route.map_or("none", MatchedPath::as_str).to_owned();
    let response = next.run(request).await;
    let status = status_class(response.status());
    metrics::counter!("plackett_requests_total", "method" => method, "route" => route.clone(), "status" => status).increment(1);
    metrics::histogram!("plackett_request_seconds", "route" => route)
        .record(started.elapsed().as_secs_f64());
    response
}

fn method_label(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        Method::PUT => "PUT",
        Method::DELETE => "DELETE",
        Method::PATCH => "PATCH",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}

fn status_class(status: StatusCode) -> &'static str {
    match status.as_u16() {
        100..200 => "1xx",
        200..300 => "2xx",
        300..400 => "3xx",
        400..500 => "4xx",
        _ => "5xx",
    }
}

/// How long requests in flight may take to end after a stop signal.
pub const GRACE: Duration = Duration::from_secs(20);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_method_that_an_asker_made_up_gets_no_label_of_its_own() {
        let made_up = Method::from_bytes(b"BREW").unwrap_or_default();
        assert_eq!(method_label(&made_up), "other");
        assert_eq!(method_label(&Method::PUT), "PUT");
    }
}
