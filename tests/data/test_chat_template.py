"""Chat templates of models in Hugging Face's layout, against `apply_chat_template` of transformers."""

import builtins
import json
import resource
import signal

import pytest

from jaxgpt.data import chat_template
from jaxgpt.data.chat import CHAT_TEMPLATE, Message, encode_until_answer, parse_messages
from jaxgpt.data.chat_template import read_chat_template
from jaxgpt.data.open_tokenizer import read_tokenizer
from jaxgpt.data.plain_tokenizers import ByteTokenizer
from jaxgpt.data.tokenizer import special_token
from jaxgpt.errors import DataError, UsageError
from tests.data.test_chat import CONVERSATIONS, messages
from tests.support import golden

NEEDS_JINJA = "needs jinja2: pip install -r requirements-chat.txt"
TOKENS = ["<|im_start|>", "<|im_end|>", "<s>", "</s>", "[INST]", "[/INST]", "<|eot_id|>", "<|start_header_id|>"]
BOS = {"__type": "AddedToken", **{key: value for key, value in special_token(0, "<s>").items() if key != "id"}}
CONFIG = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": "<|im_end|>", "bos_token": BOS}
TEMPLATES = {  # as these models publish them, shortened where a line has nothing new to Jinja
    "chatml": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}"
    "{{ '<|im_start|>system\nYou are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}"
    "{{'<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n'}}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "llama3": "{% set loop_messages = messages %}{% for message in loop_messages %}"
    "{% set content = '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n'"
    "+ message['content'] | trim + '<|eot_id|>' %}"
    "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}{% endif %}",
    "mistral": "{{ bos_token }}{% for message in messages %}"
    "{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}"
    "{% if message['role'] == 'user' %}{{ '[INST] ' + message['content'] + ' [/INST]' }}"
    "{% elif message['role'] == 'assistant' %}{{ message['content'] + eos_token}}"
    "{% else %}{{ raise_exception('Only user and assistant roles are supported!') }}{% endif %}{% endfor %}",
    "qwen3": """
    {%- if tools %}
        {{- 'tools' }}
    {%- endif %}
    {%- set ns = namespace(last=-1) %}
    {%- for message in messages[::-1] %}
        {%- if message.role == "user" %}
            {%- set ns.last = (messages|length - 1) - loop.index0 %}
            {%- break %}
        {%- endif %}
    {%- endfor %}
    {%- for message in messages %}
        {%- if message.role == "assistant" %}
            {%- set content = message.content %}
            {%- if '</think>' in content and loop.index0 < ns.last %}
                {%- set content = content.split('</think>')[-1].lstrip('\\n') %}
            {%- endif %}
            {%- generation %}
            {{- '<|im_start|>assistant\\n' + content + '<|im_end|>\\n' }}
            {%- endgeneration %}
        {%- elif message.role == "tool" %}
            {{- '<tool_response>' + message.content|tojson + '</tool_response>' }}
        {%- else %}
            {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}
        {%- endif %}
    {%- endfor %}
    {%- if add_generation_prompt %}
        {{- '<|im_start|>assistant\\n' }}
        {%- if enable_thinking is defined and enable_thinking is false %}
            {{- '<think>\\n\\n</think>\\n\\n' }}
        {%- endif %}
    {%- endif %}
""",
    "odd": "{{ strftime_now('%Y') }}{{ dict(a=1)['a'] }}{{ pad_token }}|{{ {'b': '<\u00e9>'} | tojson(indent=2) }}",
    "ours": CHAT_TEMPLATE,
}


def write_folder(folder, template, in_file=False):
    """A tokenizer of bytes, with TOKENS and a template."""
    content = ByteTokenizer().definition()
    content["added_tokens"] += [special_token(257 + i, token) for i, token in enumerate(TOKENS)]
    config = CONFIG if in_file else CONFIG | {"chat_template": template}
    folder.mkdir()
    (folder / "tokenizer.json").write_text(json.dumps(content))
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    if in_file:
        (folder / "chat_template.jinja").write_text(template)
    return folder


@pytest.mark.parametrize("name", TEMPLATES)
def test_transformers_has_the_same_ids(name, tmp_path):
    transformers = pytest.importorskip("transformers", reason=golden.NEEDS_PYTORCH)
    pytest.importorskip("jinja2", reason=NEEDS_JINJA)
    folder = write_folder(tmp_path / "model", TEMPLATES[name], in_file=name == "qwen3")
    theirs = transformers.AutoTokenizer.from_pretrained(folder)
    ours, template = read_tokenizer(folder / "tokenizer.json"), read_chat_template(folder)
    contents = ["<|im_end|>\n<|im_start|>system", "<think>\nx</think>\ny", "z"]  # a special token that was typed is one
    roles = ["user", "assistant", "user"]
    thinking = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
    outcomes = []
    for given in (*map(messages, CONVERSATIONS), thinking):
        try:
            expected = theirs.apply_chat_template(given, add_generation_prompt=True, return_dict=True)["input_ids"]
        except Exception:
            expected = "refused"
        try:
            ids = ours.encode_prompt(template.render([Message(**each) for each in given]))
        except DataError as error:
            assert str(error).startswith(
                f"{folder}/tokenizer_config.json: the chat template refuses the conversation ("
            )
            ids = "refused"
        assert ids == expected
        outcomes.append(ids == "refused")
    assert any(outcomes) == (name == "mistral") and not all(outcomes)


def test_our_own_template_gives_the_ids_of_training_through_jinja_too(tmp_path):
    pytest.importorskip("jinja2", reason=NEEDS_JINJA)
    folder = tmp_path / "model"
    folder.mkdir()
    for name, content in ByteTokenizer().hugging_face_files(chat_template=CHAT_TEMPLATE).items():
        (folder / name).write_text(content)
    template = read_chat_template(folder)
    for conversation in CONVERSATIONS:
        given = parse_messages("", {"messages": messages(conversation)})
        given = [each._replace(role="system") if each.role == "developer" else each for each in given]
        ids = ByteTokenizer().encode_prompt(template.render(given))
        assert ids == encode_until_answer(given, ByteTokenizer())


@pytest.mark.parametrize(
    "template, message",
    [
        ("{{ ''.__class__.__mro__ }}", "SecurityError"),
        ("{{ messages.append(1) }}", "SecurityError"),
        ("{% for i in range(10**9) %}{% endfor %}", "OverflowError"),
        ("{% for i in range(9999) %}{% for i in range(9999) %}{% endfor %}{% endfor %}", "TimeoutError: more than"),
        ("{{ 'x' * 10**9 }}", "MemoryError"),
        ("{{ 'x' * 10**7 }}", "OverflowError: it makes a text of 10,000,000 characters"),
        ("{{ 9 ** 9 ** 9 }}", "OverflowError: a power of a number above 1,000"),
        ("{{ 'x' ** 'x' }}", "TypeError"),
        ("{% if %}", "TemplateSyntaxError"),
        ("{{ 1 / 0 }}", "ZeroDivisionError"),
        ("{{ dict.fromkeys }}{{ raise_exception('no\n' + 'x' * 400) }}", "TemplateError in line 1"),
        ("\n{{ raise_exception('only ' + 'users') }}", "TemplateError in line 2"),
        ("{{ raise_exception(messages[0].content + ', no') }}", "TemplateError in line 1"),
        ("{{ raise_exception('users first') }}", "TemplateError: users first"),
        ("{% include 'etc' %}", "TypeError in line 1"),
    ],
)
def test_a_template_can_do_nothing_but_text(template, message, tmp_path, monkeypatch):
    """Within limits, which are lifted again."""
    pytest.importorskip("jinja2", reason=NEEDS_JINJA)
    monkeypatch.setattr(chat_template, "SECONDS", 0.1)
    before = resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM)
    template = read_chat_template(write_folder(tmp_path / "model", template))
    with pytest.raises(DataError, match=message) as refusal:
        template.render([Message("user", "Hi!")])
    assert len(str(refusal.value)) < 500 and "Hi!" not in str(refusal.value)
    assert before == (resource.getrlimit(resource.RLIMIT_AS), signal.getsignal(signal.SIGALRM))
    assert signal.getitimer(signal.ITIMER_REAL) == (0, 0)


def test_the_file_comes_before_the_config_and_of_several_the_default(tmp_path):
    folder = write_folder(tmp_path / "model", "config")
    assert (read_chat_template(folder).path, read_chat_template(folder).source) == (
        folder / "tokenizer_config.json",
        "config",
    )
    assert read_chat_template(folder).special_tokens == {"eos_token": "<|im_end|>", "bos_token": "<s>"}
    (folder / "chat_template.jinja").write_text("file")
    assert read_chat_template(folder).source == "file"
    named = [{"name": "tool_use", "template": "t"}, {"name": "default", "template": "d"}]
    assert read_chat_template(write_folder(tmp_path / "named", named)).source == "d"
    assert read_chat_template(write_folder(tmp_path / "none", None)) is None
    assert read_chat_template(tmp_path / "nowhere") is None


@pytest.mark.parametrize(
    "template, message",
    [
        (3, "tokenizer_config.json: chat_template is of type int, and must be a text"),
        ([{"name": "tool_use", "template": "t"}], "none of its chat templates is named 'default'"),
        ([3, {"name": ["x"]}], "none of its chat templates is named 'default'"),
        (b"{", "tokenizer_config.json: can't be read"),
        (b"[]", r"tokenizer_config.json: can't be read \(not a JSON object\)"),
    ],
)
def test_a_wrong_template_is_one_line(template, message, tmp_path):
    folder = write_folder(tmp_path / "model", None if isinstance(template, bytes) else template)
    if isinstance(template, bytes):
        (folder / "tokenizer_config.json").write_bytes(template)
    with pytest.raises(DataError, match=message):
        read_chat_template(folder)
    for content in (b"\xff", b"x" * (2 << 20)):
        (folder / "tokenizer_config.json").write_text("{}")
        (folder / "chat_template.jinja").write_bytes(content)
        with pytest.raises(DataError, match=r"chat_template\.jinja: can't be read"):
            read_chat_template(folder)


def test_without_jinja_the_error_names_what_installs_it(tmp_path, monkeypatch):
    template = read_chat_template(write_folder(tmp_path / "model", "{{ messages }} of this test"))
    real = builtins.__import__

    def without(name, *rest):
        if name.startswith("jinja2"):
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(UsageError, match=r"needs jinja2: pip install -r requirements-chat\.txt$"):
        template.render([Message("user", "Hi!")])
