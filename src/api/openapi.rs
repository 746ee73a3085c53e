//! The route table as documents: OpenAPI for programs, a table for the README.

use std::fmt::Write;
use std::sync::OnceLock;

use crate::auth::{Form, Forms, Grants};
use crate::http::Method;

use super::routes::{Access, Body, Family, Need, Path, Reach, Route};
use super::table::ROUTES;

const HEAD: &str = "\
openapi: 3.1.0
info:
  title: Lucid
  description: >-
    An in-memory key-value node spoken to over HTTP. This document is made from the table by which the
    node routes its requests.
  license: {name: MIT, identifier: MIT}
";

const COMPONENTS: &str = "\
components:
  securitySchemes:
    jwt: {type: http, scheme: bearer, bearerFormat: JWT, description: \"HS256 under authentication.secret_key\"}
    apiKey: {type: http, scheme: bearer, bearerFormat: lkv_…, description: \"An API key of /api/keys\"}
    appToken: {type: http, scheme: bearer, bearerFormat: lkr_… or lkw_…, description: \"A token of an app\"}
    password: {type: http, scheme: basic, description: \"Empty user name, and the databases password or an API key\"}
  responses:
    Problem:
      description: What is wrong
      content:
        application/json: {schema: {$ref: '#/components/schemas/Problem'}}
        application/problem+json: {schema: {type: object}}
    Refusal:
      description: What is wrong
      content:
        application/json: {schema: {$ref: '#/components/schemas/Refusal'}}
    Sentence:
      description: What is wrong, in a sentence, or as it is asked for
      content:
        text/plain: {schema: {type: string}}
        application/json: {schema: {$ref: '#/components/schemas/Problem'}}
        application/problem+json: {schema: {type: object}}
    Unauthorized:
      description: No credential, or none that is good
      headers: {WWW-Authenticate: {schema: {type: string}}}
    Forbidden:
      description: The credential does not allow this, and lacks the grants that the field names
      headers: {X-Required-Grants: {schema: {type: string}}}
  schemas:
    Problem:
      type: object
      required: [message]
      properties: {message: {type: string}, code: {type: string}, detail: {type: string}}
    Refusal:
      type: object
      required: [ok, error]
      properties:
        ok: {const: false}
        error:
          type: object
          required: [code, message]
          properties: {code: {type: string}, message: {type: string}}
";

/// The OpenAPI document, in YAML.
pub fn document() -> &'static str {
    static DOCUMENT: OnceLock<String> = OnceLock::new();
    DOCUMENT.get_or_init(write_document)
}

fn write_document() -> String {
    let mut out = HEAD.to_owned();
    line(&mut out, 1, &format!("version: {}", env!("CARGO_PKG_VERSION")));
    line(&mut out, 0, "servers: [{url: 'http://127.0.0.1:7020'}]");
    line(&mut out, 0, "paths:");
    let mut done: Vec<Path> = Vec::new();
    for route in &ROUTES {
        if done.contains(&route.path) {
            continue;
        }
        done.push(route.path);
        line(&mut out, 1, &format!("{}:", route.path.pattern()));
        write_path_parameter(&mut out, route.path);
        for same in ROUTES.iter().filter(|other| other.path == route.path) {
            write_operation(&mut out, same);
        }
    }
    out + COMPONENTS
}

fn line(out: &mut String, depth: usize, text: &str) {
    out.push_str(&"  ".repeat(depth));
    out.push_str(text);
    out.push('\n');
}

fn write_path_parameter(out: &mut String, path: Path) {
    let (name, what) = match path {
        Path::Exact(_) => return,
        Path::Key(_) => {
            ("key", "Everything behind the prefix, slashes included; 1 to 1024 bytes once decoded")
        }
        Path::Id(..) => ("id", "As it was answered when it was made"),
    };
    line(out, 2, "parameters:");
    line(
        out,
        3,
        &format!(
            "- {{name: {name}, in: path, required: true, description: {}, schema: {{type: string}}}}",
            quoted(what)
        ),
    );
}

fn write_operation(out: &mut String, route: &Route) {
    let method = route.method.unwrap_or(Method::Get);
    line(out, 2, &format!("{}:", method.name().to_ascii_lowercase()));
    line(out, 3, &format!("operationId: {}", route.doc.name));
    line(out, 3, &format!("summary: {}", quoted(route.doc.summary)));
    line(out, 3, &format!("tags: [{}]", route.family.name()));
    match route.access {
        Access::Open => line(out, 3, "security: []"),
        Access::Holders { forms, need, reach } => {
            line(out, 3, &format!("description: {}", quoted(&description(need, reach))));
            line(out, 3, "security:");
            for scheme in schemes(forms) {
                line(out, 4, &format!("- {scheme}: [{}]", need.grants()));
            }
        }
    }
    if !route.doc.query.is_empty() {
        line(out, 3, "parameters:");
        for (name, what) in route.doc.query {
            let what = quoted(what);
            line(
                out,
                4,
                &format!("- {{name: {name}, in: query, description: {what}, schema: {{type: string}}}}"),
            );
        }
    }
    let content = match route.body {
        Body::Ignored => None,
        Body::Value => Some("'*/*': {}"),
        Body::Words | Body::Form | Body::Request => Some("application/json: {}"),
        Body::Lines => Some("application/x-ndjson: {}"),
        Body::Fields => {
            Some("application/x-www-form-urlencoded: {}, multipart/form-data: {}, application/json: {}")
        }
    };
    if let Some(content) = content {
        let what = quoted(route.doc.body);
        line(
            out,
            3,
            &format!("requestBody: {{required: true, description: {what}, content: {{{content}}}}}"),
        );
    }
    line(out, 3, "responses:");
    for (status, what) in route.doc.answers {
        line(out, 4, &format!("'{status}': {{description: {}}}", quoted(what)));
    }
    if route.access != Access::Open {
        line(out, 4, "'401': {$ref: '#/components/responses/Unauthorized'}");
        if !route.doc.answers.iter().any(|(status, _)| *status == 403) {
            line(out, 4, "'403': {$ref: '#/components/responses/Forbidden'}");
        }
    }
    if content.is_some() {
        line(out, 4, "'413': {description: \"The body is too large\"}");
    }
    let problem = match route.family {
        Family::Light => "Refusal",
        Family::Databases => "Sentence",
        Family::Kv | Family::Keys | Family::Node => "Problem",
    };
    line(out, 4, &format!("default: {{$ref: '#/components/responses/{problem}'}}"));
}

fn description(need: Need, reach: Reach) -> String {
    let mut text = match need {
        Need::Grant(grants) => format!("Needs the grant {grants}."),
        Need::AnyOf(grants) => format!("Needs the grant that the body asks for: one of {grants}."),
    };
    if reach == Reach::Node {
        text.push_str(" A credential that is limited to some keys is refused.");
    }
    text
}

/// The security schemes of these forms.
fn schemes(forms: Forms) -> Vec<&'static str> {
    let mut schemes: Vec<&str> = forms
        .iter()
        .map(|form| match form {
            Form::Jwt => "jwt",
            Form::ApiKey => "apiKey",
            Form::AppToken => "appToken",
            Form::Password | Form::ApiKeyAsPassword => "password",
        })
        .collect();
    schemes.dedup();
    schemes
}

/// A text in YAML's double quotes, which JSON's are.
fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

/// Every endpoint with the credentials it takes and the grant it needs, in Markdown.
pub fn grants_table() -> String {
    let mut out = "| endpoint | credential | grant |\n|---|---|---|\n".to_owned();
    for route in &ROUTES {
        let method = route.method.map_or("any", Method::name);
        let (forms, grants) = match route.access {
            Access::Open => ("none".to_owned(), "none".to_owned()),
            Access::Holders { forms, need, .. } => {
                let forms: Vec<&str> = forms.iter().map(Form::name).collect();
                (forms.join(", "), named(need))
            }
        };
        let _ = writeln!(out, "| `{method} {}` | {forms} | {grants} |", route.path.pattern());
    }
    out
}

fn named(need: Need) -> String {
    let code = |grants: Grants, between: &str| {
        grants.names().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(between)
    };
    match need {
        Need::Grant(grants) => code(grants, " and "),
        Need::AnyOf(grants) => code(grants, " or "),
    }
}

#[cfg(test)]
mod tests {
    use super::{ROUTES, document, grants_table};
    use crate::api::Access;

    #[test]
    fn the_document_has_every_row_with_its_grants() {
        let document = document();
        for route in &ROUTES {
            assert!(document.contains(&format!("  {}:\n", route.path.pattern())), "{:?}", route.path);
            let own =
                document.split("operationId: ").find(|part| part.lines().next() == Some(route.doc.name));
            let own = own.unwrap_or_else(|| panic!("no {}", route.doc.name));
            match route.access {
                Access::Open => assert!(own.contains("security: []")),
                Access::Holders { need, .. } => {
                    assert!(own.contains(&format!("- apiKey: [{}]", need.grants())), "{own}");
                }
            }
        }
    }

    #[test]
    fn the_table_has_a_line_for_each_row() {
        let table = grants_table();
        assert_eq!(table.lines().count(), ROUTES.len() + 2);
        assert!(table.contains("| `GET /api/kv/{key}` | JWT, API key | `kv:read` |"), "{table}");
        assert!(
            table.contains("| `PATCH /api/kv/{key}` | JWT, API key | `kv:write` or `kv:lock` |"),
            "{table}"
        );
        assert!(table.contains("| `GET /livez` | none | none |"), "{table}");
    }
}
