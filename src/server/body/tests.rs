//! Tests of reading a request's body, with the clock in hand.

use actix_web::FromRequest;
use actix_web::dev;
use actix_web::error::PayloadError;
use actix_web::test::TestRequest;
use futures_util::stream;

use super::*;

async fn read(chunks: impl futures_util::Stream<Item = Bytes> + 'static) -> Result<Bytes, ProxyError> {
    let (request, _) = TestRequest::post().to_http_parts();
    let stream: std::pin::Pin<Box<dyn futures_util::Stream<Item = Result<Bytes, PayloadError>>>> =
        Box::pin(chunks.map(Ok));
    let mut payload = dev::Payload::from(stream);
    let payload = web::Payload::from_request(&request, &mut payload).await.unwrap();
    read_body(&request, payload, 1000).await
}

/// One byte at a time, with this long between two.
fn trickle(pause: Duration, bytes: usize) -> impl futures_util::Stream<Item = Bytes> {
    stream::unfold(0, move |sent| async move {
        if sent == bytes {
            return None;
        }
        tokio::time::sleep(pause).await;
        Some((Bytes::from_static(b"x"), sent + 1))
    })
}

#[actix_rt::test]
async fn a_client_that_stops_sending_is_given_up_after_half_a_minute() {
    tokio::time::pause();
    let start = tokio::time::Instant::now();
    let error = read(stream::iter([Bytes::from_static(b"{")]).chain(stream::pending())).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::InvalidRequest);
    assert_eq!(error.message, "the request body did not come within 30 s");
    assert_eq!(start.elapsed().as_secs(), 30);
}

#[actix_rt::test]
async fn a_slow_client_that_goes_on_sending_is_not() {
    tokio::time::pause();
    assert_eq!(read(trickle(BODY_IDLE - Duration::from_secs(1), 100)).await.unwrap().len(), 100);
}

#[actix_rt::test]
async fn an_endless_body_is_refused_at_the_limit() {
    let endless = stream::repeat(Bytes::from_static(&[b' '; 100]));
    assert_eq!(read(endless).await.unwrap_err().kind, ErrorKind::BodyTooLarge);
    assert_eq!(read(stream::repeat(Bytes::from_static(&[b' '; 100])).take(10)).await.unwrap().len(), 1000);
}
