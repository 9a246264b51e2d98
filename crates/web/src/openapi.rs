//! The service's OpenAPI document, completed by what every service has, at `/openapi.json`; and a page to read it, at
//! `/docs`, whose files are all in this binary.

use std::collections::BTreeMap;

use actix_web::{
    HttpResponse,
    http::header,
    web::{Data, ServiceConfig, get, resource},
};
use utoipa::{
    Modify, OpenApi as _, PartialSchema as _,
    openapi::{
        ContentBuilder, Header, OpenApi, PathItem, Ref, RefOr, ResponseBuilder,
        path::Operation,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};
use utoipa_swagger_ui::{Config, SwaggerUi};

use crate::{admission, health, problem, server::Shared};

#[derive(utoipa::OpenApi)]
#[openapi(
    paths(health::livez, health::readyz, health::metrics),
    components(schemas(crate::ProblemBody, crate::FieldError)),
    modifiers(&Bearer)
)]
struct Common;

/// The security scheme `bearer`, for `security(("bearer" = []))` on operations.
struct Bearer;

impl Modify for Bearer {
    fn modify(&self, openapi: &mut OpenApi) {
        let scheme = HttpBuilder::new().scheme(HttpAuthScheme::Bearer).bearer_format("JWT").build();
        openapi.components.get_or_insert_default().add_security_scheme("bearer", SecurityScheme::Http(scheme));
    }
}

pub(crate) fn complete(mut openapi: OpenApi) -> OpenApi {
    operations(&mut openapi).for_each(can_be_refused);
    let mut openapi = openapi.merge_from(Common::openapi());
    operations(&mut openapi).for_each(name_parameters_once);
    openapi
}

fn operations(openapi: &mut OpenApi) -> impl Iterator<Item = &mut Operation> {
    openapi.paths.paths.values_mut().flat_map(|item| {
        [&mut item.get, &mut item.post, &mut item.put, &mut item.patch, &mut item.delete].into_iter().flatten()
    })
}

/// Every route of a service has a limit ([`crate::admission`]). What a service says of its own about 503 stays.
fn can_be_refused(operation: &mut Operation) {
    let problem = Ref::from_schema_name("Problem");
    let example: serde_json::Value = serde_json::from_str(&admission::overloaded().to_json()).unwrap_or_default();
    let content = ContentBuilder::new().schema(Some(problem)).example(Some(example)).build();
    let mut retry_after = Header::new(String::schema());
    retry_after.description = Some("After how many seconds to come back".to_owned());
    let refused = ResponseBuilder::new()
        .description("There are too many requests, or something that is needed does not answer")
        .header("Retry-After", retry_after)
        .content(problem::CONTENT_TYPE, content);
    operation.responses.responses.entry("503".to_owned()).or_insert_with(|| RefOr::T(refused.build()));
}

/// Method and pattern of everything that is documented.
pub(crate) fn routes(openapi: &OpenApi) -> Vec<(&'static str, String)> {
    let methods = |(path, item): (&String, &PathItem)| {
        let all = [
            ("GET", item.get.is_some()),
            ("POST", item.post.is_some()),
            ("PUT", item.put.is_some()),
            ("PATCH", item.patch.is_some()),
            ("DELETE", item.delete.is_some()),
        ];
        let there = all.into_iter().filter(|(_, there)| *there);
        there.map(|(method, _)| (method, path.clone())).collect::<Vec<_>>()
    };
    openapi.paths.paths.iter().flat_map(methods).collect()
}

/// A parameter that is described by hand and also found in the handler's arguments is listed twice, which is not valid (OpenAPI 3.1, operation
/// object: a list without duplicates) and makes generators of clients leave the operation out. The description comes first and stays.
fn name_parameters_once(operation: &mut Operation) {
    let mut seen = Vec::new();
    if let Some(parameters) = &mut operation.parameters {
        parameters.retain(|parameter| {
            let RefOr::T(parameter) = parameter else { return true };
            let key = (parameter.name.clone(), parameter.parameter_in.clone());
            let new = !seen.contains(&key);
            seen.push(key);
            new
        });
    }
}

/// The `Allow` header of each documented path.
pub(crate) fn allowed_methods(openapi: &OpenApi) -> BTreeMap<String, String> {
    let allow = |item: &PathItem| {
        let methods = [
            (item.get.is_some(), "GET, HEAD"),
            (item.post.is_some(), "POST"),
            (item.put.is_some(), "PUT"),
            (item.patch.is_some(), "PATCH"),
            (item.delete.is_some(), "DELETE"),
        ];
        methods.into_iter().filter_map(|(there, name)| there.then_some(name)).collect::<Vec<_>>().join(", ")
    };
    let ours = ["/openapi.json", "/docs", "/docs/{_:.*}"].map(|path| (path.to_owned(), "GET, HEAD".to_owned()));
    openapi.paths.paths.iter().map(|(path, item)| (path.clone(), allow(item))).chain(ours).collect()
}

pub(crate) fn configure(config: &mut ServiceConfig) {
    let page = SwaggerUi::new("/docs/{_:.*}").config(
        // By default the page sends the document to a validator on the internet.
        Config::from("/openapi.json").validator_url("none").display_request_duration(true),
    );
    config
        .service(resource("/openapi.json").route(get().to(document)))
        .service(resource("/docs").route(get().to(to_page)))
        .service(page);
}

async fn document(shared: Data<Shared>) -> HttpResponse {
    HttpResponse::Ok().content_type("application/json").body(shared.openapi.clone())
}

async fn to_page() -> HttpResponse {
    HttpResponse::PermanentRedirect().insert_header((header::LOCATION, "/docs/")).finish()
}

#[cfg(test)]
mod tests {
    use utoipa::openapi::path::{HttpMethod, OperationBuilder, Parameter, ParameterIn, Paths};

    use super::*;

    #[test]
    fn a_parameter_is_listed_once_with_its_description() {
        let parameter = |place, description| {
            let mut parameter = Parameter::new("id");
            (parameter.parameter_in, parameter.description) = (place, description);
            parameter
        };
        let operation = OperationBuilder::new()
            .parameter(parameter(ParameterIn::Path, Some("The order".to_owned())))
            .parameter(parameter(ParameterIn::Path, None))
            .parameter(parameter(ParameterIn::Query, None));
        let mut paths = Paths::new();
        paths.add_path_operation("/orders/{id}", vec![HttpMethod::Get], operation.build());
        let document = serde_json::to_value(complete(OpenApi::new(utoipa::openapi::Info::default(), paths))).unwrap();
        let listed = document["paths"]["/orders/{id}"]["get"]["parameters"].as_array().unwrap();
        let listed: Vec<_> = listed.iter().map(|one| (&one["in"], &one["description"])).collect();
        assert_eq!(listed, [(&"path".into(), &"The order".into()), (&"query".into(), &serde_json::Value::Null)]);
    }
}
