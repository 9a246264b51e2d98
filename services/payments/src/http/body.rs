//! A JSON body that may be left out.

use actix_web::{FromRequest, HttpRequest, dev::Payload, http::header};
use futures_util::future::LocalBoxFuture;
use serde::de::DeserializeOwned;
use web::{Json, Problem};

/// As [`Json`], and the default where there is no body at all, or `null`.
pub(super) struct Optional<T>(pub(super) T);

impl<T: DeserializeOwned + Default + 'static> FromRequest for Optional<T> {
    type Error = Problem;
    type Future = LocalBoxFuture<'static, Result<Self, Problem>>;

    fn from_request(request: &HttpRequest, payload: &mut Payload) -> Self::Future {
        // RFC 9112 §6.3: without either header, a request has no body.
        let headers = request.headers();
        let length = headers.get(header::CONTENT_LENGTH).map_or(b"0".as_slice(), |length| length.as_bytes());
        if length == b"0" && !headers.contains_key(header::TRANSFER_ENCODING) {
            return Box::pin(async { Ok(Self(T::default())) });
        }
        let json = Json::<Option<T>>::from_request(request, payload);
        Box::pin(async { Ok(Self(json.await?.0.unwrap_or_default())) })
    }
}
