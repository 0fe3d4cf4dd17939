"""Settings by method and tuning, what makes a run fit, and which base and provider are meant."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from finetuning import estimate
from finetuning.errors import BadInputError, UnknownNameError
from finetuning.training import TrainingPlan, configure_training, load_config
from finetuning.training.bases import find_out
from finetuning.training.config import read_tables
from finetuning.training.preflight import base_facts
from finetuning.training.rules import choose_learning_rate, outside_calibration

Configure = Callable[..., TrainingPlan]
COMMIT = "0123456789abcdef0123456789abcdef01234567"
ROWS: dict[str, dict[str, Any]] = {
    "sft": {"prompt": "send", "completion": "Rome"},
    "dpo": {"prompt": "send", "chosen": "Rome", "rejected": "Milan"},
    "kto": {"prompt": "send", "completion": "Rome", "label": True},
    "grpo": {"prompt": "send", "answer": "Rome"},
    "cpt": {"text": "send Rome " * 1500},  # 3,000 words
}


@pytest.fixture
def configure(tmp_path: Path) -> Configure:
    """Return configure_training for 400 rows of a method, an 8B base and an H100."""

    def call(rows_of: str, **arguments: Any) -> TrainingPlan:
        folder = tmp_path / rows_of
        folder.mkdir(exist_ok=True)
        for name, count in (("train", 400), ("validation", 8)):
            rows = [dict(ROWS[rows_of]) for _ in range(count)]
            if rows_of == "kto":
                rows = [{**row, "label": n % 4 == 0} for n, row in enumerate(rows)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"{name}.jsonl").write_text(text)
        given: dict[str, Any] = {"base_model": "Qwen/Qwen3-8B", "gpu": "H100", "method": rows_of}
        given |= {"data": str(folder), **arguments}
        return configure_training(**given)

    return call


def codes(plan: TrainingPlan) -> dict[str, str]:
    return {finding.code: finding.severity for finding in plan.findings}


@pytest.mark.parametrize(
    ("method", "tuning", "rate"),
    [
        ("sft", "lora", 7.1e-4),
        ("sft", "full", 4.73e-5),
        ("dpo", "lora", 5e-6),
        ("dpo", "qlora", 5e-6),
        ("dpo", "full", 1e-6),
        ("kto", "lora", 5e-6),
        ("grpo", "lora", 5e-6),
        ("cpt", "lora", 5e-5),
        ("cpt", "full", 4.73e-5),
    ],
)
def test_each_method_and_tuning_has_its_rate_with_a_source(
    method: str, tuning: Any, rate: float
) -> None:
    shape = estimate.read_architecture("qwen3-8b")
    steps = 50 if method == "sft" else 1000
    choice = choose_learning_rate(shape, steps, method, tuning)
    assert choice.value == pytest.approx(rate, rel=0.01)
    assert choice.source


def test_full_tuning_stays_inside_its_range_and_tiny_models_outside_it() -> None:
    small = estimate.read_architecture("qwen3-0.6b")
    assert choose_learning_rate(small, 1000, "sft", "full").value == 5e-5
    tiny = small.model_copy(update={"parameters": 1_000_000, "hidden_size": 128})
    found = choose_learning_rate(tiny, 1000, "sft", "full")
    assert found.value == pytest.approx(4.28e-4)
    preference = choose_learning_rate(tiny, 1000, "dpo", "lora")
    assert preference.value == pytest.approx(5e-6 * 4.28e-3 / 2e-4, rel=0.01)
    assert "an extrapolation" in preference.reason


@pytest.mark.parametrize("method", ["dpo", "kto", "grpo", "cpt"])
def test_a_method_gets_its_own_settings_each_with_a_reason(
    configure: Configure, method: str
) -> None:
    plan = configure(method)
    config, why = plan.config, plan.why
    assert plan.exit_code() == 0
    assert config["num_train_epochs"] == 1.0
    assert load_config(plan.files[0], where="test").method == method
    assert all(reason.endswith("]") for reason in why.values())
    assert ("beta" in why) == (method != "cpt")
    if method == "kto":
        assert (config["desirable_weight"], config["undesirable_weight"]) == (3.0, 1.0)
        assert "100 desirable and 300 undesirable" in why["desirable_weight"]
    if method == "grpo":
        assert config["per_device_train_batch_size"] == 16
        assert config["beta"] == 0.0
        assert codes(plan)["no_verifier"] == "warning"
        assert config["max_length"] >= 256 + 1
    if method == "cpt":
        assert config["max_length"] == 2664, "2048 and 30 % for the approximate count"
        assert "not cut off" in why["max_length"]
        assert "rows_truncated" not in codes(plan)
        assert config["r"] == 16


def test_full_tuning_chooses_no_adapter(configure: Configure) -> None:
    plan = configure("sft", tuning="full", gpu_memory_gb=640)
    assert not {"r", "lora_alpha", "target_modules"} & set(plan.why)
    assert plan.config["weight_decay"] == 0.01
    assert "rank_small_for_data" not in codes(plan)


def test_qlora_is_recorded_as_nf4_and_needs_less(configure: Configure) -> None:
    plan = configure("sft", tuning="qlora")
    assert plan.config["quantisation"] == "nf4"
    assert plan.memory_gb < configure("sft").memory_gb / 2


@pytest.mark.parametrize("gpu", ["T4", "NVIDIA V100-SXM2-32GB"])
def test_an_old_gpu_gets_no_bf16(configure: Configure, gpu: str) -> None:
    plan = configure("sft", gpu=gpu, base_model="Qwen/Qwen3-0.6B")
    assert plan.config["precision"] == "fp32"
    assert "no bf16" in plan.why["precision"]


@pytest.mark.parametrize(
    ("flags", "hidden", "tuning", "precision"),
    [
        ("avx512_bf16", 1024, "lora", "bf16"),
        ("amx_bf16", 1024, "full", "fp32"),
        ("avx2", 1024, "lora", "fp32"),
        ("avx512_bf16", 128, "lora", "fp32"),
    ],
)
def test_a_cpu_gets_bf16_weights_where_they_were_measured_to_pay(
    flags: str,
    hidden: int,
    tuning: str,
    precision: str,
    base: Path,
    prepared: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(
        "finetuning.training.knobs.cpu_info",
        lambda: __import__("finetuning.training.environment", fromlist=["CpuInfo"]).CpuInfo(
            name="CPU", cores=2, bf16=flags != "avx2"
        ),
    )
    model = str(base) if hidden == 128 else "Qwen/Qwen3-0.6B"
    plan = configure_training(model, str(prepared), tuning=tuning)
    assert plan.config["precision"] == precision


def test_outside_the_calibrated_sizes_three_rates_are_tried_and_it_is_said(
    base: Path, prepared: Path
) -> None:
    plan = configure_training(str(base), str(prepared))
    assert plan.config["probe_learning_rates"] == [2.14e-3, 4.28e-3, 5e-3]
    assert "hidden size 128 is outside" in plan.why["probe_learning_rates"]
    assert "held-out loss" in plan.why["probe_learning_rates"]
    for changes in ({"learning_rate": 3e-3}, {"probe_learning_rates": None}):
        kept = configure_training(str(base), str(prepared), overrides=changes)
        assert kept.config["probe_learning_rates"] is None
    alone = configure_training(str(base), str(prepared / "train.jsonl"))
    assert alone.config["probe_learning_rates"] is None, "there is nothing to judge by"


@pytest.mark.parametrize(
    ("model", "inside"),
    [("qwen3-8b", True), ("llama-3.1-8b", True), ("qwen3-0.6b", False), ("gemma-3-4b", False)],
)
def test_the_formula_says_where_it_holds(model: str, inside: bool) -> None:
    assert (outside_calibration(estimate.read_architecture(model)) is None) == inside


def test_general_rows_are_mixed_in_where_the_base_can_answer(
    configure: Configure, base: Path, prepared: Path
) -> None:
    assert configure("sft").config["replay_fraction"] == 0.05
    assert configure("sft", engine="trl").config["replay_fraction"] == 0.0
    tiny = configure_training(str(base), str(prepared))
    assert tiny.config["replay_fraction"] == 0.0
    given = {"replay_file": str(prepared / "train.jsonl")}
    mixed = configure_training(str(base), str(prepared), overrides=given)
    assert mixed.config["replay_fraction"] == 0.2


@pytest.mark.parametrize(
    ("method", "arguments", "message"),
    [
        ("sft", {"overrides": {"lora_alpha": 0}}, "lora_alpha is 0"),
        ("sft", {"overrides": {"beta": 0.1}}, "beta is set, but the method is sft"),
        ("sft", {"overrides": {"padding_free": True}}, "padding_free"),
        ("sft", {"overrides": {"packing": True, "length_buckets": True}}, "both set"),
        ("sft", {"overrides": {"num_processes": 2}}, "which starts one process"),
        ("dpo", {"overrides": {"packing": True}}, "compares whole answers"),
        ("kto", {"overrides": {"per_device_train_batch_size": 1}}, "compares the rows"),
        ("grpo", {"overrides": {"per_device_train_batch_size": 3}}, "no multiple of"),
        ("sft", {"tuning": "full", "overrides": {"r": 8}}, "full tuning has no adapter"),
        ("sft", {"engine": "unsloth", "n_gpus": 2}, "unsloth is asked for on 2 GPUs"),
        ("sft", {"method": "rft"}, "the hosted kind"),
        ("sft", {"base_model": "Qwen/Qwen3.5-9B", "overrides": {"packing": True}}, "a state"),
    ],
)
def test_contradictions_are_refused_with_the_mend(
    configure: Configure, method: str, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(BadInputError, match=message) as caught:
        configure(method, **arguments)
    assert caught.value.args


@pytest.mark.parametrize("engine", ["local", "unsloth"])
def test_what_needs_cuda_is_refused_on_a_cpu(base: Path, prepared: Path, engine: str) -> None:
    tuning = "qlora" if engine == "local" else "lora"
    with pytest.raises(BadInputError, match=r"needs CUDA.*gpu='L4'"):
        configure_training(str(base), str(prepared), tuning=tuning, engine=engine)


def test_feedback_of_one_kind_only_is_an_error(configure: Configure, tmp_path: Path) -> None:
    path = tmp_path / "good.jsonl"
    path.write_text((json.dumps(ROWS["kto"]) + "\n") * 40)
    assert codes(configure("kto", data=str(path)))["one_kind_of_feedback"] == "error"


def test_idle_gpus_are_named_and_torchrun_uses_them(configure: Configure) -> None:
    assert codes(configure("sft", n_gpus=4))["gpus_idle"] == "warning"
    plan = configure("sft", n_gpus=4, engine="torchrun")
    assert plan.config["num_processes"] == 4
    assert plan.config["per_device_train_batch_size"] == 4
    assert "the effective batch stays 16" in plan.why["num_processes"]
    assert "gpus_idle" not in codes(plan)
    ray = configure("sft", n_gpus=2, engine="ray")
    assert [Path(path).name for path in ray.files] == ["training.json"]


@pytest.mark.parametrize("method", ["sft", "dpo", "kto", "grpo"])
def test_what_does_not_fit_comes_with_calls_that_do(configure: Configure, method: str) -> None:
    plan = configure(method, gpu=None, gpu_memory_gb=17)
    assert codes(plan)["does_not_fit"] == "error"
    assert 1 <= len(plan.next) <= 3
    for call in plan.next:
        assert call.tool == "configure_training"
        again = configure_training(**call.args)  # type: ignore[arg-type]  # JSON by contract
        assert again.fits, call.why
        assert again.exit_code() == 0


def test_full_tuning_that_does_not_fit_is_offered_lora_first(configure: Configure) -> None:
    plan = configure("sft", tuning="full")
    assert plan.next[0].args["tuning"] == "lora"
    (finding,) = [each for each in plan.findings if each.code == "does_not_fit"]
    assert "GB each" in finding.fix


def test_a_cpu_that_is_too_small_is_told_which_gpu_would_do(configure: Configure) -> None:
    plan = configure("sft", gpu=None, base_model="meta-llama/Llama-3.3-70B-Instruct")
    assert plan.exit_code() == 1
    assert configure_training(**plan.next[0].args).fits  # type: ignore[arg-type]  # as above


def test_long_rows_can_be_shortened_to_fit(configure: Configure, tmp_path: Path) -> None:
    rows = [{"prompt": "send " * (30 if n % 50 else 7000), "completion": "x"} for n in range(400)]
    path = tmp_path / "long.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    plan = configure(
        "sft",
        data=str(path),
        gpu=None,
        gpu_memory_gb=19.6,
        overrides={"max_length": 7168},
    )
    assert not plan.fits
    shorter = [call for call in plan.next if "cuts" in call.why]
    assert shorter, plan.findings
    assert configure_training(**shorter[0].args).fits  # type: ignore[arg-type]  # as above


class Hub(BaseHTTPRequestHandler):
    """Answers as the hub's API does for one public and one gated model."""

    asked: list[str]

    def do_GET(self) -> None:
        self.asked.append(self.path)
        answers: dict[str, tuple[int, Any]] = {
            "/api/models/Qwen/Qwen3-8B/revision/main": (
                200,
                {"sha": COMMIT, "gated": False, "cardData": {"license": "apache-2.0"}},
            ),
            "/api/models/google/gemma-3-4b-it/revision/main": (
                200,
                {"sha": COMMIT, "gated": "manual", "cardData": {"license": "gemma"}},
            ),
            "/api/models/Qwen/Qwen3-4B/revision/main": (200, ["no object"]),
        }
        status, body = answers.get(self.path, (401, {"error": "no such model"}))
        text = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: Any) -> None:
        """Write nothing to the terminal."""


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Run a hub on the loopback and return the paths that it was asked for."""
    asked: list[str] = []
    server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (Hub,), {"asked": asked}))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    yield asked
    server.shutdown()
    server.server_close()
    thread.join()


def test_a_name_on_the_hub_is_pinned_to_its_commit(configure: Configure, hub: list[str]) -> None:
    plan = configure("sft")
    assert plan.config["base_revision"] == COMMIT
    assert plan.base["licence"] == "apache-2.0"
    (finding,) = [each for each in plan.findings if each.code == "base_not_here"]
    assert f"hf download Qwen/Qwen3-8B --revision {COMMIT} --local-dir " in finding.fix
    assert "base_not_pinned" not in codes(plan)
    assert hub == ["/api/models/Qwen/Qwen3-8B/revision/main"]
    trl = configure("sft", engine="trl")
    assert f'model_revision: "{COMMIT}"' in Path(trl.files[0]).read_text(encoding="utf-8")


@pytest.mark.parametrize("name", ["FINE_TUNING_OFFLINE", "HF_HUB_OFFLINE"])
def test_offline_nothing_is_asked_and_it_is_said(
    configure: Configure, hub: list[str], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "1")
    plan = configure("sft")
    assert codes(plan)["base_not_pinned"] == "warning"
    assert plan.config["base_revision"] is None
    pinned = configure("sft", overrides={"base_revision": COMMIT})
    assert pinned.config["base_revision"] == COMMIT
    assert "base_not_pinned" not in codes(pinned)
    assert hub == []


def test_without_being_asked_nothing_is_looked_up(
    configure: Configure, hub: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("HF_ENDPOINT")
    (finding,) = [each for each in configure("sft").findings if each.code == "base_not_pinned"]
    assert "nobody asked the hub" in finding.message
    assert "'base_revision': 'main'" in finding.fix
    assert hub == []


def test_a_gated_model_comes_with_the_one_command_that_mends_it(
    configure: Configure, hub: list[str]
) -> None:
    plan = configure("sft", base_model="google/gemma-3-4b-it")
    (finding,) = [each for each in plan.findings if each.code == "base_gated"]
    assert "hf auth login && hf download google/gemma-3-4b-it" in finding.fix
    assert codes(plan)["licence_terms"] == "warning"
    assert plan.base["licence"] == "gemma"
    assert hub


@pytest.mark.usefixtures("hub")
def test_a_hub_that_refuses_or_answers_nonsense_leaves_the_base_unpinned() -> None:
    hidden = find_out("owner/private-model")
    assert hidden.gated
    assert hidden.not_pinned_because is not None
    assert "401" in hidden.not_pinned_because
    assert find_out("Qwen/Qwen3-4B").not_pinned_because is not None
    assert find_out("no-hub-id").not_pinned_because == "no hub id"


def test_an_endpoint_that_is_no_web_address_is_not_opened(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "file:///etc")
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    assert find_out("Qwen/Qwen3-8B", COMMIT).not_pinned_because is None
    assert "ValueError" in str(find_out("Qwen/Qwen3-8B").not_pinned_because)


def test_a_snapshot_in_the_hubs_cache_is_used_with_its_commit(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    snapshot = cache / "models--owner--tiny" / "snapshots" / COMMIT
    snapshot.parent.mkdir(parents=True)
    base.rename(snapshot)
    (cache / "models--owner--tiny" / "refs").mkdir()
    (cache / "models--owner--tiny" / "refs" / "main").write_text(COMMIT)
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    found = find_out("owner/tiny")
    assert (found.name, found.folder, found.revision) == ("owner/tiny", str(snapshot), COMMIT)
    assert find_out("owner/tiny", COMMIT).folder == str(snapshot)
    assert find_out("owner/tiny", "f" * 40).folder is None
    monkeypatch.setenv("FINE_TUNING_ROOTS", str(tmp_path / "elsewhere"))
    assert find_out("owner/tiny").folder is None, "outside the folders that may be read"


def test_the_shipped_base_goes_by_its_name(prepared: Path) -> None:
    plan = configure_training("demo", str(prepared))
    assert Path(plan.config["base_model"], "config.json").is_file()
    assert find_out("demo").name == "base"


def test_a_downloaded_folder_knows_its_commit(base: Path) -> None:
    noted = base / ".cache" / "huggingface" / "download" / "config.json.metadata"
    noted.parent.mkdir(parents=True)
    noted.write_text(f"{COMMIT}\netag\n1.0\n")
    assert find_out(str(base)).revision == COMMIT
    assert find_out(str(base), COMMIT).revision == COMMIT
    with pytest.raises(BadInputError, match="holds commit 0123456789ab"):
        find_out(str(base), "f" * 40)
    noted.write_text("nothing\n")
    assert find_out(str(base)).revision is None


def test_the_digest_of_a_base_is_the_one_the_run_checks(base: Path, prepared: Path) -> None:
    plan = configure_training(str(base), str(prepared))
    config = load_config(plan.files[0], where="test")
    assert config.base_sha256 is not None
    assert base_facts(config)["sha256"] == config.base_sha256
    (base / "config.json").write_text((base / "config.json").read_text() + "\n")
    with pytest.raises(BadInputError, match="which the config names"):
        base_facts(config)


@pytest.fixture
def chats(tmp_path: Path) -> Path:
    """Return a file of conversations."""
    row = {
        "messages": [
            {"role": "user", "content": "send"},
            {"role": "assistant", "content": "Rome"},
        ]
    }
    path = tmp_path / "chats.jsonl"
    path.write_text((json.dumps(row) + "\n") * 320)
    return path


@pytest.mark.parametrize(
    ("provider", "model", "method", "expected"),
    [
        (
            "openai",
            "gpt-4.1-mini-2025-04-14",
            "sft",
            {"n_epochs": 3, "batch_size": "auto", "learning_rate_multiplier": "auto"},
        ),
        ("azure", "gpt-4.1", "dpo", {"n_epochs": 1, "beta": 0.1}),
        (
            "together",
            "Qwen/Qwen3.5-9B",
            "sft",
            {"n_epochs": 3, "learning_rate": 7.09e-4, "lora_r": 32, "lora": True},
        ),
        (
            "fireworks",
            "accounts/fireworks/models/qwen3p5-9b",
            "sft",
            {"epochs": 3, "learning_rate": 7.09e-4, "lora_rank": 32},
        ),
        (
            "nebius",
            "meta-llama/Llama-3.3-70B-Instruct",
            "sft",
            {"lora": True, "lora_r": 32, "n_epochs": 3},
        ),
        (
            "vertex",
            "gemini-3.1-flash-lite",
            "sft",
            {"epoch_count": 3, "adapter_size": 16},
        ),
        ("tinker", "Qwen/Qwen3-8B", "sft", {"rank": 32, "learning_rate": 7.09e-4}),
        ("bedrock", "amazon.nova-lite-v1:0:300k", "sft", {"epochCount": "3"}),
    ],
)
def test_hosted_hyperparameters_have_their_providers_names(
    chats: Path, provider: str, model: str, method: str, expected: dict[str, Any]
) -> None:
    plan = configure_training(model, str(chats), method=method, engine=provider)
    found = plan.config["hyperparameters"]
    assert {name: found[name] for name in expected} == expected
    assert set(found) <= set(plan.why)
    assert json.loads(Path(plan.files[0]).read_text(encoding="utf-8")) == plan.config
    assert plan.exit_code() == 0
    assert plan.fit_facts["provider"] == provider
    assert plan.next[0].tool == "validate_jsonl"
    if provider in {"openai", "azure"}:
        kind = {"sft": "supervised", "dpo": "dpo"}[method]
        assert plan.config["method_body"]["type"] == kind
        assert plan.config["method_body"][kind]["hyperparameters"] == found


def test_openais_sdk_has_these_names(chats: Path) -> None:
    from openai.types.fine_tuning import DpoHyperparameters, SupervisedHyperparameters

    for method, model in (("sft", SupervisedHyperparameters), ("dpo", DpoHyperparameters)):
        plan = configure_training("gpt-4.1-2025-04-14", str(chats), method=method, engine="openai")
        assert set(plan.config["hyperparameters"]) <= set(model.model_fields)
        model.model_validate(plan.config["hyperparameters"])


def test_a_hosted_setting_stays_inside_the_providers_range(chats: Path) -> None:
    plan = configure_training(
        "Qwen/Qwen3.5-9B", str(chats), engine="together", overrides={"r": 128, "lora_dropout": 0.1}
    )
    assert plan.config["hyperparameters"]["lora_r"] == 64
    assert "128 lies outside the provider's" in plan.why["lora_r"]
    assert plan.why["lora_dropout"].startswith("set by the caller")


def test_closed_and_closing_providers_are_said_with_the_date(chats: Path) -> None:
    with pytest.raises(BadInputError, match="2025-09-15"):
        configure_training("command-r", str(chats), engine="cohere")
    plan = configure_training("gpt-4.1-mini", str(chats), engine="openai")
    (finding,) = plan.findings
    assert finding.code == "existing_customers_only"
    assert "2027-01-06" in finding.message


@pytest.mark.parametrize(
    ("provider", "model", "method", "message"),
    [
        ("openai", "gpt-4o-mini", "dpo", "does not train gpt-4o-mini-2024-07-18 by dpo"),
        ("sagemaker", "huggingface-vlm-qwen3-8-27b", "sft", "no names of settings"),
    ],
)
def test_what_a_provider_does_not_have_is_refused(
    chats: Path, provider: str, model: str, method: str, message: str
) -> None:
    with pytest.raises((BadInputError, UnknownNameError), match=message):
        configure_training(model, str(chats), method=method, engine=provider)


def test_a_hosted_job_needs_a_row(tmp_path: Path) -> None:
    path = tmp_path / "empty.jsonl"
    path.write_text("[1]\n")
    with pytest.raises(BadInputError, match="no readable row"):
        configure_training("gpt-4.1", str(path), engine="openai")


def test_every_finding_and_reason_of_the_table_is_used_and_explained() -> None:
    knowledge = Path(__file__).parents[2] / "training.md"
    text = knowledge.read_text(encoding="utf-8")
    package = Path(__file__).parents[2] / "tools" / "finetuning" / "training"
    code = "".join(path.read_text(encoding="utf-8") for path in package.glob("*.py"))
    tables = read_tables()
    for name, (severity, _, _) in tables["findings"].items():
        assert f"| `{name}` | {severity}" in text, name
        assert f'"{name}"' in code, name
