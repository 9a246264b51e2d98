//! Runs in turn, so that the machine's moods meet all sides alike. What a run is, the caller knows.

/// Runs every side once in each of so many rounds; what each came to, by side and then by round. Who goes first changes from round to round,
/// in case that the order matters.
///
/// # Errors
/// The first of a run.
pub async fn in_turn<S: Copy, T, E>(
    sides: &[S],
    rounds: usize,
    mut run: impl AsyncFnMut(S) -> Result<T, E>,
) -> Result<Vec<Vec<T>>, E> {
    let mut figures: Vec<Vec<T>> = sides.iter().map(|_| Vec::with_capacity(rounds)).collect();
    for round in 0..rounds {
        for place in 0..sides.len() {
            let place = if round % 2 == 0 { place } else { sides.len() - 1 - place };
            figures[place].push(run(sides[place]).await?);
        }
    }
    Ok(figures)
}

#[cfg(test)]
mod tests {
    use std::{future::Future, pin::pin, task::Context, task::Poll, task::Waker};

    use super::*;

    #[test]
    fn who_goes_first_changes() {
        let mut order = Vec::new();
        let figures = {
            let mut turns = pin!(in_turn(&["a", "b"], 3, async |side| {
                order.push(side);
                Ok::<_, ()>(order.len())
            }));
            match turns.as_mut().poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(figures) => figures.unwrap(),
                Poll::Pending => panic!("nothing here waits"),
            }
        };
        assert_eq!(order, ["a", "b", "b", "a", "a", "b"]);
        assert_eq!(figures, [[1, 4, 5], [2, 3, 6]]);
    }
}
