"""Policies that are wrong on purpose, each in one way."""

from contextlib import contextmanager
from dataclasses import replace

from pts.policies.source import as_source
from pts.policies.transformers import TransformersPolicy


class Changed(TransformersPolicy):
    """Draws for other requests than those it was given."""

    def finished(self, requests, *arguments, **options):
        source, taken = as_source(requests), []
        while more := source.take(64):
            taken += more
        return super().finished(self.change(taken), *arguments, **options)

    def change(self, requests):
        return [self.changed(request) for request in requests]

    def changed(self, request):
        return request


class Hot(Changed):
    """Draws at a higher temperature than it says."""

    def changed(self, request):
        sampling = request.sampling
        return replace(request, sampling=replace(sampling, temperature=1.3 * sampling.temperature))


class Leaking(Changed):
    """In a batch of several, each request begins with a token of the next one's prompt."""

    def change(self, requests):
        if len(requests) == 1:
            return requests
        others = [*requests[1:], requests[0]]
        pairs = zip(requests, others, strict=True)
        return [replace(one, prompt=(other.prompt[-1], *one.prompt[1:])) for one, other in pairs]


class OneStream(Changed):
    """In a batch of several, the random numbers are others than alone."""

    def change(self, requests):
        return [replace(one, seed=one.seed + len(requests) - 1) for one in requests]


class Forgetful(Changed):
    """Reads the prompt without its beginning where a completion goes on from inside."""

    def changed(self, request):
        return replace(request, prompt=request.prompt[-2:]) if request.prefix else request


class Overspending(Changed):
    """Counts one token fewer than it draws."""

    def changed(self, request):
        return replace(request, sampling=replace(request.sampling, budget=request.sampling.budget + 1))


class Deaf(Changed):
    """Hears of no stop text and no guide."""

    def changed(self, request):
        return replace(request, guide=None, sampling=replace(request.sampling, stop=()))


class Endless(TransformersPolicy):
    """Names an end token that it draws like any other."""

    extra = 0

    @property
    def end_token_ids(self):
        return (*super().end_token_ids, self.extra)


class Unmoved(Changed):
    """Steers nothing."""

    def changed(self, request):
        return replace(request, variant=0)


class Staying(TransformersPolicy):
    """Leaves a hook on the model that steered it."""

    @contextmanager
    def steered(self, steering):
        with super().steered(steering) as policy:
            yield policy
        self.loaded.model.get_output_embeddings().register_forward_hook(lambda *_: None)
