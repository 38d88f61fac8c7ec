//! The form of a project is edited as rows, in versions.

use axum::http::StatusCode;
use serde_json::{Value, json};
use sqlx::PgPool;

use crate::projects::{encode, found};
use crate::support::{Answer, Client, TestApp, fake};

/// The fields of the form on a page, as a browser would send them.
fn fields_of(body: &str, form: &str) -> Vec<(String, String)> {
    let page = scraper::Html::parse_document(body);
    let inputs =
        scraper::Selector::parse(&format!("{form} input[name], {form} textarea[name]")).unwrap();
    let read = page.select(&inputs).filter_map(|input| {
        let value = |name: &str| input.value().attr(name).unwrap_or_default().to_owned();
        let is_choice = matches!(input.value().attr("type"), Some("radio" | "checkbox"));
        if is_choice && input.value().attr("checked").is_none() {
            return None;
        }
        Some((value("name"), value("value")))
    });
    read.collect()
}

/// Presses a button of the form editor with some fields changed.
async fn press(
    admin: &Client<'_>,
    path: &str,
    body: &str,
    action: &str,
    changes: &[(&str, &str)],
) -> Answer {
    let mut fields = fields_of(body, "#form");
    for (name, value) in changes {
        fields.retain(|(known, _)| known != name);
        fields.push(((*name).to_owned(), (*value).to_owned()));
    }
    fields.push(("action".to_owned(), action.to_owned()));
    let fields: Vec<(&str, &str)> = fields
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    admin.post(path, &encode(&fields)).await
}

async fn newest_form(db: &PgPool) -> (i32, Value) {
    sqlx::query_as("SELECT version, fields FROM forms ORDER BY version DESC LIMIT 1")
        .fetch_one(db)
        .await
        .unwrap()
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_form_is_edited_as_rows_and_old_labels_keep_theirs(db: PgPool) {
    let id = fake::project(&db, 2, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let ada = app.labeler("ada").await;
    let task = ada.open_task().await;
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    assert_eq!(page.status, StatusCode::OK, "{}", page.body);

    // Nothing was touched, so there is nothing to publish.
    let same = press(&admin, &path, &page.body, "publish", &[]).await;
    assert!(
        same.body.contains("Nothing differs from version 1"),
        "{}",
        same.body
    );
    // A row more, one up, one away; nothing is kept yet.
    let page = press(&admin, &path, &page.body, "scales-add", &[]).await;
    let page = press(
        &admin,
        &path,
        &page.body,
        "flags-up-1",
        &[("scales-0-key", "truthful")],
    )
    .await;
    let page = press(&admin, &path, &page.body, "flags-remove-10", &[]).await;
    assert_eq!(newest_form(&db).await.0, 1);
    // The new scale says nothing yet: every wrong field is named, and what was typed stays.
    let wrong = press(&admin, &path, &page.body, "publish", &[]).await;
    assert_eq!(wrong.status, StatusCode::UNPROCESSABLE_ENTITY);
    for id in ["scales-0-label-en", "scales-0-min"] {
        assert!(wrong.body.contains(&format!("href=\"#{id}\"")), "{id}");
    }
    assert!(wrong.body.contains("value=\"truthful\""));
    let scale = [
        ("scales-0-min", "1"),
        ("scales-0-max", "5"),
        ("scales-0-label-en", "How true it is"),
        ("scales-0-label-zh", "真实程度"),
    ];
    let done = press(&admin, &path, &wrong.body, "publish", &scale).await;
    assert_eq!(found(&done), format!("{path}#versions"));
    let (version, form) = newest_form(&db).await;
    assert_eq!(
        (version, &form["scales"][0]["key"]),
        (2, &json!("truthful"))
    );
    assert_eq!(form["scales"][0]["label"]["zh"], "真实程度");
    assert_eq!(
        form["flags"][0]["key"],
        "inappropriate_for_customer_assistant"
    );
    assert_eq!(form["flags"].as_array().unwrap().len(), 10);

    // Ada's task began under version 1 and ends under it.
    assert!(!ada.get(&task).await.body.contains("How true it is"));
    let ranking =
        "rank-1=1&rank-2=2&rank-3=3&rank-4=4&note=&action=submit&idempotency_key=k&confirmed=yes";
    found(&ada.post(&task, ranking).await);
    let under: Vec<i32> =
        sqlx::query_scalar("SELECT form_version FROM assignments WHERE status = 'submitted'")
            .fetch_all(&db)
            .await
            .unwrap();
    assert_eq!(under, [1]);
    let listed = admin.get(&path).await.body;
    assert!(
        listed.contains("Further scales · truthful: new"),
        "{listed}"
    );
    assert!(
        listed.contains("expresses_moral_judgment: removed") && listed.contains("another order")
    );
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_key_never_changes_its_meaning_unseen(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    let other = [("flags-2-label-en", "Invents a source")];
    let warned = press(&admin, &path, &page.body, "publish", &other).await;
    assert_eq!(warned.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(
        warned
            .body
            .contains("“Makes something up” becomes “Invents a source”")
    );
    assert_eq!(newest_form(&db).await.0, 1);
    let confirmed = press(
        &admin,
        &path,
        &warned.body,
        "publish",
        &[("same_meaning", "yes")],
    )
    .await;
    found(&confirmed);
    assert_eq!(
        newest_form(&db).await.1["flags"][2]["label"]["en"],
        "Invents a source"
    );

    // Taken away and brought back with other words, it is still the key of older labels.
    let page = admin.get(&path).await;
    let page = press(&admin, &path, &page.body, "flags-remove-0", &[]).await;
    found(&press(&admin, &path, &page.body, "publish", &[]).await);
    let page = admin.get(&path).await;
    let page = press(&admin, &path, &page.body, "flags-add", &[]).await;
    let back = [
        ("flags-10-key", "fails_instruction"),
        ("flags-10-label-en", "Late"),
    ];
    let warned = press(&admin, &path, &page.body, "publish", &back).await;
    assert_eq!(warned.status, StatusCode::UNPROCESSABLE_ENTITY);
    assert!(warned.body.contains("becomes “Late”"), "{}", warned.body);
}

#[sqlx::test(migrator = "server::MIGRATOR")]
async fn a_form_that_was_published_meanwhile_is_not_overwritten_unseen(db: PgPool) {
    let id = fake::project(&db, 0, 4, 1, 3600).await;
    // A part that this page does not edit.
    sqlx::query("INSERT INTO forms (project_id, version, fields) SELECT project_id, 2, fields || '{\"of_another_page\": [1]}' FROM forms")
        .execute(&db)
        .await
        .unwrap();
    let app = TestApp::new(db.clone());
    let admin = app.admin().await;
    let path = format!("/projects/{id}/form");
    let page = admin.get(&path).await;
    let first = press(
        &admin,
        &path,
        &page.body,
        "publish",
        &[("flags-0-help-en", "First")],
    )
    .await;
    found(&first);
    let second = press(
        &admin,
        &path,
        &page.body,
        "publish",
        &[("flags-1-help-en", "Second")],
    )
    .await;
    assert_eq!(second.status, StatusCode::CONFLICT);
    assert!(
        second.body.contains("published version 3 since")
            && second.body.contains("value=\"Second\"")
    );
    assert_eq!(newest_form(&db).await.0, 3);
    found(&press(&admin, &path, &second.body, "publish", &[]).await);
    let (version, form) = newest_form(&db).await;
    assert_eq!((version, &form["of_another_page"]), (4, &json!([1])));

    // Rows that move and what is wrong come back without the changes: what is published next shows them first.
    let third = press(
        &admin,
        &path,
        &page.body,
        "flags-down-0",
        &[("flags-1-help-en", "Third")],
    )
    .await;
    let wrong = [("flags-0-label-en", ""), ("flags-0-label-zh", "")];
    let wrong = press(&admin, &path, &third.body, "publish", &wrong).await;
    for refused in [&third, &wrong] {
        assert_eq!(refused.status, StatusCode::CONFLICT);
        assert!(refused.body.contains("published version 4 since"));
        assert!(!refused.body.contains("id=\"changes\""));
    }
    let mended = [("flags-0-label-en", "Mended")];
    let mended = press(&admin, &path, &wrong.body, "publish", &mended).await;
    assert_eq!(mended.status, StatusCode::CONFLICT);
    assert!(mended.body.contains("Version 5 would change"));
    assert_eq!(newest_form(&db).await.0, 4);
}
