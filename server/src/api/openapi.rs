//! `GET /api/v1/openapi.json`: the API's description, made from the handlers themselves.

use axum::Json;
use utoipa::openapi::path::Operation;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    Components, Content, Header, Object, ObjectBuilder, Ref, RefOr, Response, Schema, Type,
};
use utoipa::{Modify, OpenApi};

use crate::api::{agreement, assignments, exports, models, projects, snapshots};
use crate::domain::form::Form;
use crate::web::errors::{Problem, WrongField};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Plackett",
        description = "Lease tasks, save drafts, submit rankings, demonstrations and reviews of prompts, \
            download snapshots.\n\n\
            Programs send a token of their account (page *Account*) as `Authorization: Bearer`. Ids \
            are UUIDs; where one is wanted, a short name is refused.\n\n\
            What people count is counted from 1: `position` is a candidate's place in the order \
            shown, and `rank` 1 is the best. Where a refusal names a wrong field, the name is its \
            path in the JSON that was sent, whose lists are counted from 0: `candidates[0].rank` is \
            the rank of the first entry sent, whatever its `position`."
    ),
    paths(
        show,
        projects::index,
        agreement::show,
        models::show,
        assignments::create,
        assignments::index,
        assignments::show,
        assignments::save_draft,
        assignments::submit,
        assignments::skip,
        snapshots::index,
        snapshots::show,
        snapshots::export,
        exports::create,
        exports::show,
        exports::file,
    ),
    components(schemas(Problem, WrongField)),
    modifiers(&Bearer, &Refusals, &FormKeys)
)]
struct Description;

struct Bearer;

impl Modify for Bearer {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let scheme =
            SecurityScheme::Http(HttpBuilder::new().scheme(HttpAuthScheme::Bearer).build());
        description
            .components
            .get_or_insert_with(Default::default)
            .add_security_scheme("bearer", scheme);
    }
}

/// What every operation can answer besides its own: the same everywhere, so said once.
struct Refusals;

impl Modify for Refusals {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        for item in description.paths.paths.values_mut() {
            let operations = [
                &mut item.get,
                &mut item.put,
                &mut item.post,
                &mut item.delete,
                &mut item.patch,
            ];
            for operation in operations.into_iter().flatten() {
                add_refusals(operation);
            }
        }
    }
}

fn add_refusals(operation: &mut Operation) {
    let has_parameters = operation.parameters.is_some();
    let responses = &mut operation.responses.responses;
    let mut add = |status: &str, text: &str| {
        responses
            .entry(status.to_owned())
            .or_insert_with(|| RefOr::T(Response::new(text)));
    };
    if operation.security.is_some() {
        add("401", "no or wrong bearer token");
    }
    if has_parameters {
        add("400", "the address or the body cannot be read");
    }
    for (status, response) in responses {
        let RefOr::T(response) = response else {
            continue;
        };
        if status.starts_with('4') {
            let content = Content::new(Some(Ref::from_schema_name("Problem")));
            response
                .content
                .insert("application/problem+json".to_owned(), RefOr::T(content));
        }
        if status == "401" {
            response
                .headers
                .insert("WWW-Authenticate".to_owned(), RefOr::T(Header::default()));
        }
    }
}

/// The keys that a form gives meaning to, from the standard form, which new projects start with.
struct FormKeys;

impl Modify for FormKeys {
    fn modify(&self, description: &mut utoipa::openapi::OpenApi) {
        let form = Form::default();
        let flags = keys(
            "A yes/no question about one candidate. Those of a project's form: these, the fields of \
             InstructGPT's Table 3, unless it has a form of its own.",
            form.flags.into_iter().map(|flag| flag.key),
        );
        let reasons = keys(
            "Why a task is skipped. Those of a project's form: these, unless it has a form of its own.",
            form.skip_reasons.into_iter().map(|reason| reason.key),
        );
        let prompt_flags = keys(
            "A yes/no question about a prompt. Those of a project's form: these, the fields of \
             InstructGPT's Table 7, unless it has a form of its own.",
            form.prompt_flags.into_iter().map(|flag| flag.key),
        );
        let kinds = keys(
            "What personal data is. Those of a project's form: these, unless it has a form of its own.",
            form.pii_kinds.into_iter().map(|kind| kind.key),
        );
        let components = description.components.get_or_insert_with(Default::default);
        for (component, keys) in [("CandidateInput", &flags), ("ReviewInput", &prompt_flags)] {
            if let Some(RefOr::T(Schema::Object(answers))) =
                property(components, component, "flags")
            {
                answers.property_names = Some(Box::new(keys.clone().into()));
            }
        }
        if let Some(kind) = property(components, "Found", "kind") {
            *kind = Ref::from_schema_name("PersonalData").into();
        }
        if let Some(reason) = property(components, "SkipInput", "reason") {
            *reason = Ref::from_schema_name("SkipReason").into();
        }
        let schemas = &mut components.schemas;
        schemas.insert("Flag".to_owned(), flags.into());
        schemas.insert("PromptFlag".to_owned(), prompt_flags.into());
        schemas.insert("PersonalData".to_owned(), kinds.into());
        schemas.insert("SkipReason".to_owned(), reasons.into());
    }
}

fn keys(text: &str, keys: impl Iterator<Item = String>) -> Object {
    ObjectBuilder::new()
        .schema_type(Type::String)
        .description(Some(text))
        .examples(keys)
        .build()
}

/// The schema of a property of a component.
fn property<'c>(
    components: &'c mut Components,
    component: &str,
    name: &str,
) -> Option<&'c mut RefOr<Schema>> {
    match components.schemas.get_mut(component)? {
        RefOr::T(Schema::Object(object)) => object.properties.get_mut(name),
        _ => None,
    }
}

/// This description.
#[utoipa::path(
    get,
    path = "/api/v1/openapi.json",
    operation_id = "describe_api",
    responses((status = 200, description = "an OpenAPI document"))
)]
pub async fn show() -> Json<utoipa::openapi::OpenApi> {
    Json(Description::openapi())
}
