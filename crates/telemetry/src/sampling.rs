//! Which traces are recorded. A caller's decision is kept, and so is the decision of whatever a new trace links to: what began
//! unrecorded is not recorded half-way, and what is recorded stays so to the end.

use opentelemetry::{
    Context, KeyValue,
    trace::{Link, SpanKind, TraceId, TraceState},
};
use opentelemetry_sdk::trace::{ParentBasedSampler, Sampler, SamplingDecision, SamplingResult, ShouldSample};

/// Decides new traces by ratio, all others as it was decided where they began.
pub(crate) fn sampler(ratio: f64) -> ParentBasedSampler {
    Sampler::parent_based(Roots(Sampler::TraceIdRatioBased(ratio)))
}

/// For spans without a parent. One with links, such as that of a batch of messages, goes on with something whose recording was
/// decided before: it is recorded if any of that is.
#[derive(Clone, Debug)]
struct Roots(Sampler);

impl ShouldSample for Roots {
    fn should_sample(
        &self,
        parent: Option<&Context>,
        trace_id: TraceId,
        name: &str,
        kind: &SpanKind,
        attributes: &[KeyValue],
        links: &[Link],
    ) -> SamplingResult {
        if links.is_empty() {
            return self.0.should_sample(parent, trace_id, name, kind, attributes, links);
        }
        let recorded = links.iter().any(|link| link.span_context.is_sampled());
        SamplingResult {
            decision: if recorded { SamplingDecision::RecordAndSample } else { SamplingDecision::Drop },
            attributes: Vec::new(),
            trace_state: TraceState::NONE,
        }
    }
}

#[cfg(test)]
mod tests {
    use opentelemetry::trace::{SpanContext, SpanId, TraceContextExt as _, TraceFlags};

    use super::*;

    const YES: TraceFlags = TraceFlags::SAMPLED;
    const NO: TraceFlags = TraceFlags::NOT_SAMPLED;

    fn context(flags: TraceFlags) -> SpanContext {
        SpanContext::new(TraceId::from(7), SpanId::from(7), flags, true, TraceState::NONE)
    }

    fn recorded(ratio: f64, parent: Option<TraceFlags>, links: &[TraceFlags]) -> bool {
        let parent = parent.map(|flags| Context::new().with_remote_span_context(context(flags)));
        let links: Vec<_> = links.iter().map(|flags| Link::with_context(context(*flags))).collect();
        let asked =
            sampler(ratio).should_sample(parent.as_ref(), TraceId::from(9), "work", &SpanKind::Internal, &[], &links);
        asked.decision == SamplingDecision::RecordAndSample
    }

    #[test]
    fn a_caller_decides_whether_its_trace_is_recorded_and_the_ratio_whether_ours_are() {
        assert!(recorded(1.0, None, &[]) && !recorded(0.0, None, &[]));
        assert!(recorded(0.0, Some(YES), &[]) && !recorded(1.0, Some(NO), &[]));
    }

    #[test]
    fn a_new_trace_that_links_to_others_is_recorded_if_one_of_them_is() {
        assert!(recorded(0.0, None, &[NO, YES]));
        assert!(!recorded(1.0, None, &[NO, NO]));
        assert!(!recorded(1.0, Some(NO), &[YES]), "the parent comes first");
    }
}
