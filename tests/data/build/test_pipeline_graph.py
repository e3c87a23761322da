"""The Beam pipeline for clusters: rendered, and run over the protocol that Flink's and Spark's job servers speak."""

from dataclasses import replace

import pytest

from realm_jax.config import ConfigError
from realm_jax.data.build import beam_pipeline, plan, runners, shards, source
from tests.data.build import dump
from tests.data.build.conftest import REPOSITORY, contents


@pytest.fixture
def job(vocabulary, tmp_path):
    """A build of a dump in shards of few pages, and its plan."""
    file = dump.write(tmp_path, "multistream", 4)
    made = shards.Job(source.find(str(file)), str(tmp_path / "out"), vocabulary.read_text(), 48, "rules")
    return made, plan.make_or_read(made, 400)


@pytest.mark.parametrize(
    ("runner", "has"),
    [
        ("direct", ["--runner=DirectRunner", "--direct_num_workers=7", "--direct_running_mode=multi_processing"]),
        ("dataflow", ["--runner=DataflowRunner", "--num_workers=7"]),
        ("flink", ["--runner=FlinkRunner", "--parallelism=7", "--environment_type=DOCKER"]),
        ("spark", ["--runner=SparkRunner", "--environment_type=DOCKER"]),
        ("portable", ["--runner=PortableRunner", "--environment_type=LOOPBACK"]),
    ],
)
def test_options_of_a_runner(runner, has):
    from apache_beam.options.pipeline_options import PipelineOptions

    rendered = runners.options(runner, 7, '--job_name="my corpus" --runner=X')
    assert set(has[1:]) <= set(rendered) and "--job_name=my corpus" in rendered
    assert [option for option in rendered if option.startswith("--runner")] == ["--runner=X"]  # the user's word wins
    parsed = PipelineOptions(runners.options(runner, 7, "--project=p")).get_all_options(drop_default=True)
    assert parsed["runner"] == has[0].removeprefix("--runner=") and parsed["project"] == "p"


GOOGLE = "--project=some-project --region=r --temp_location=gs://bucket/tmp --staging_location=gs://bucket/staging"


@pytest.mark.parametrize(("runner", "beam"), [("dataflow", GOOGLE), ("flink", ""), ("spark", "")])
def test_the_job_of_a_cluster_has_every_part_once_and_groups_nothing_after_it(runner, beam, job):
    import pickle

    made, planned = job
    numbered = list(enumerate(planned.parts))
    graph = beam_pipeline.pipeline(made, numbered, runners.options(runner, 3, beam)).to_runner_api()
    transforms = graph.components.transforms.values()
    assert {"plan", "spread", "shard"} <= {transform.unique_name.split("/")[0] for transform in transforms}
    grouping = [t.unique_name for t in transforms if t.spec.urn == "beam:transform:group_by_key:v1"]
    assert not [name for name in grouping if name.startswith("shard")]
    assert pickle.loads(pickle.dumps((made, numbered))) == (made, numbered)  # what is sent to the workers


def test_options_that_are_missing_are_one_clear_error(job):
    made, planned = job
    with pytest.raises(ConfigError, match="Missing required option: project.*--beam="):
        beam_pipeline.pipeline(made, list(enumerate(planned.parts)), runners.options("dataflow", 3))


def test_a_job_server_runs_it(job, tmp_path, monkeypatch):
    from apache_beam.runners.portability import local_job_service

    monkeypatch.chdir(REPOSITORY)
    made, planned = job
    server = local_job_service.LocalJobServicer(str(tmp_path / "staging"), beam_job_type=None)
    port = server.start_grpc_server()
    try:
        options = runners.options("portable", 1, f"--job_endpoint=localhost:{port}")
        beam_pipeline.run(made, planned.parts, options, lambda done, total: None)
    finally:
        server.stop()
    assert not shards.errors(made, len(planned.parts)) and all(made.is_done(i) for i in range(len(planned.parts)))
    other = replace(made, out=str(tmp_path / "other"))
    again = plan.make_or_read(other, 400)
    for numbered in enumerate(again.parts):
        shards.build_shard(numbered, other)
    for one in (made, other):
        shards.finish(one, planned.identity, planned.fingerprint, len(planned.parts), 1.0)
    assert contents(made.out) == contents(other.out)
