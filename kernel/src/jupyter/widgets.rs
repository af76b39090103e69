//! Controls as Jupyter's widgets: the messages of ipywidgets' protocol, version 2, over comms. Its front-end part draws them.
//!
//! Each control is three models there: itself, its layout and its style. What a front end asks of them is answered at once,
//! whatever runs; what a person sets becomes a turn of the notebook.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
};

use jupyter_protocol::{
    CommClose, CommId, CommInfo, CommMsg, CommOpen, JupyterMessage, JupyterMessageContent as Content,
};
use serde_json::{Map, Value as Json, json};
use skep_session::{
    Bundle,
    control::{Control, Kind, Span, Value, shown_in},
};

/// A bundle's form that is drawn by the front-end part of ipywidgets.
pub const VIEW: &str = "application/vnd.jupyter.widget-view+json";
const TARGET: &str = "jupyter.widget";
/// By which a front end that comes later asks for everything at once.
const CONTROL_TARGET: &str = "jupyter.widget.control";
const PROTOCOL: &str = "2.1.0";
const CONTROL_PROTOCOL: &str = "1.0.0";
/// Of the front-end parts that the models belong to.
const MODULE: &str = "2.0.0";

/// The controls that a front end may know.
#[derive(Default)]
pub struct Widgets(Mutex<State>);

#[derive(Default)]
struct State {
    controls: BTreeMap<u64, Control>,
    /// Places on the page, and which control stands there.
    places: Vec<(String, u64)>,
}

/// What a message of a front end asks for.
pub enum Heard {
    /// A person has set a control.
    Change(u64, Value),
    /// These are the answer.
    Say(Vec<Content>),
}

impl Widgets {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A control is new, or stands otherwise: what a front end is told.
    pub fn put(&self, id: u64, control: &Control) -> Vec<Content> {
        let known = self.lock().controls.insert(id, control.clone());
        if known.is_some() {
            return vec![update(&comm_id(id), Json::Object(value_of(control)))];
        }
        let models = models(id, control);
        models
            .into_iter()
            .map(|(comm_id, state)| {
                let open = CommOpen {
                    comm_id: CommId(comm_id),
                    target_name: TARGET.to_string(),
                    data: object(json!({ "state": state, "buffer_paths": [] })),
                    target_module: None,
                };
                Content::CommOpen(open)
            })
            .collect()
    }

    /// Something is shown at a place of its own.
    pub fn show(&self, place: &str, bundle: &Bundle) {
        if let Some(id) = shown_in(bundle) {
            self.lock().places.push((place.to_string(), id));
        }
    }

    /// Nothing can be set any more: pictures for the places, and the end of all comms.
    pub fn take_all(&self) -> (Vec<(String, Bundle)>, Vec<Content>) {
        let State { controls, places } = std::mem::take(&mut *self.lock());
        let picture = |(place, id): (String, u64)| Some((place, controls.get(&id)?.bundle()));
        let pictures = places.into_iter().filter_map(picture).collect();
        let close = |comm_id: String| {
            Content::CommClose(CommClose {
                comm_id: CommId(comm_id),
                data: Map::new(),
            })
        };
        let closed = controls
            .iter()
            .flat_map(|(id, control)| models(*id, control))
            .map(|(comm_id, _)| close(comm_id))
            .collect();
        (pictures, closed)
    }

    /// Every comm that is open, by its name; none of them for another target.
    pub fn comms(&self, target: Option<&str>) -> Vec<(CommId, CommInfo)> {
        if target.is_some_and(|target| target != TARGET) {
            return Vec::new();
        }
        let info = || CommInfo {
            target_name: TARGET.to_string(),
        };
        self.all().into_keys().map(|id| (CommId(id), info())).collect()
    }

    fn all(&self) -> BTreeMap<String, Json> {
        let state = self.lock();
        let each = |(id, control): (&u64, &Control)| models(*id, control);
        state.controls.iter().flat_map(each).collect()
    }

    /// Whether a comm that a front end opens is one that somebody here answers.
    pub fn takes(open: &CommOpen) -> bool {
        open.target_name == CONTROL_TARGET
    }

    pub fn hear(&self, message: &CommMsg) -> Heard {
        let method = message.data.get("method").and_then(Json::as_str);
        let comm_id = &message.comm_id.0;
        match method {
            Some("request_states") => {
                let states: Map<String, Json> = self
                    .all()
                    .into_iter()
                    .map(|(id, state)| {
                        let model = json!({
                            "model_name": state["_model_name"],
                            "model_module": state["_model_module"],
                            "model_module_version": state["_model_module_version"],
                            "state": state,
                        });
                        (id, model)
                    })
                    .collect();
                let data = json!({ "method": "update_states", "states": states, "buffer_paths": [] });
                Heard::Say(vec![told(comm_id, data)])
            }
            Some("request_state") => {
                let state = self.all().remove(comm_id);
                Heard::Say(state.map(|state| update(comm_id, state)).into_iter().collect())
            }
            Some("update" | "custom") => self
                .changed(comm_id, &message.data)
                .map_or(Heard::Say(Vec::new()), |(id, value)| Heard::Change(id, value)),
            _ => Heard::Say(Vec::new()),
        }
    }

    /// What a person has set, where it is something that the control takes.
    fn changed(&self, comm_id: &str, data: &Map<String, Json>) -> Option<(u64, Value)> {
        let id = u64::from_str_radix(comm_id.strip_prefix("skep-")?, 16).ok()?;
        let mut state = self.lock();
        let control = state.controls.get_mut(&id)?;
        let new = |name: &str| data.get("state")?.get(name);
        let value = match (&control.kind, &control.value) {
            (Kind::Button, Value::Clicks(n)) => {
                let is_click = data.get("content")?.get("event")? == "click";
                is_click.then_some(Value::Clicks(n + 1))?
            }
            (Kind::Slider(_) | Kind::Number { .. }, _) => Value::Number(new("value")?.as_f64()?),
            (Kind::Select(_), _) => Value::Choice(new("index")?.as_u64()? as usize),
            (Kind::Checkbox, _) => Value::Bool(new("value")?.as_bool()?),
            (Kind::Text, _) => Value::Text(new("value")?.as_str()?.to_string()),
            (Kind::Button, _) => return None,
        };
        let accepted = control.accepts(&value)?;
        // Who asks for its state from now on gets the new one, though its turn may take a while.
        control.value = accepted;
        Some((id, value))
    }
}

/// A bundle's control as a view of it.
pub fn view(id: &str) -> Json {
    json!({ "version_major": 2, "version_minor": 0, "model_id": format!("skep-{id}") })
}

/// Opening a comm says by which version of the protocol.
pub fn with_version(mut message: JupyterMessage) -> JupyterMessage {
    let version = match &message.content {
        Content::CommOpen(_) => PROTOCOL,
        Content::CommMsg(said)
            if said
                .data
                .get("method")
                .is_some_and(|method| method == "update_states") =>
        {
            CONTROL_PROTOCOL
        }
        _ => return message,
    };
    message.metadata = json!({ "version": version });
    message
}

fn comm_id(id: u64) -> String {
    format!("skep-{id:x}")
}

fn told(comm_id: &str, data: Json) -> Content {
    Content::CommMsg(CommMsg {
        comm_id: CommId(comm_id.to_string()),
        data: object(data),
    })
}

fn update(comm_id: &str, state: Json) -> Content {
    told(
        comm_id,
        json!({ "method": "update", "state": state, "buffer_paths": [] }),
    )
}

fn object(value: Json) -> Map<String, Json> {
    match value {
        Json::Object(map) => map,
        _ => Map::new(),
    }
}

/// A control's models with their whole states; what others refer to comes first.
fn models(id: u64, control: &Control) -> Vec<(String, Json)> {
    let (name, style) = match control.kind {
        Kind::Slider(Span { is_whole: true, .. }) => ("IntSlider", "SliderStyle"),
        Kind::Slider(_) => ("FloatSlider", "SliderStyle"),
        Kind::Number { is_whole: true, .. } => ("IntText", "DescriptionStyle"),
        Kind::Number { is_whole: false, .. } => ("FloatText", "DescriptionStyle"),
        Kind::Select(_) => ("Dropdown", "DescriptionStyle"),
        Kind::Checkbox => ("Checkbox", "CheckboxStyle"),
        Kind::Text => ("Text", "TextStyle"),
        Kind::Button => ("Button", "ButtonStyle"),
    };
    let comm_id = comm_id(id);
    let (layout_id, style_id) = (format!("{comm_id}-layout"), format!("{comm_id}-style"));
    let model = |module: &str, name: &str, view: Option<&str>| {
        json!({
            "_model_module": module,
            "_model_module_version": MODULE,
            "_model_name": format!("{name}Model"),
            "_view_module": module,
            "_view_module_version": MODULE,
            "_view_name": view,
        })
    };
    const BASE: &str = "@jupyter-widgets/base";
    const CONTROLS: &str = "@jupyter-widgets/controls";
    let layout = model(BASE, "Layout", Some("LayoutView"));
    let mut style = model(CONTROLS, style, Some("StyleView"));
    style["_view_module"] = json!(BASE);
    if control.kind != Kind::Button {
        // A label is as wide as it is, and not cut.
        style["description_width"] = json!("initial");
    }
    let mut state = model(CONTROLS, name, Some(&format!("{name}View")));
    state["description"] = json!(control.label);
    state["disabled"] = json!(false);
    state["layout"] = json!(format!("IPY_MODEL_{layout_id}"));
    state["style"] = json!(format!("IPY_MODEL_{style_id}"));
    for (key, value) in value_of(control) {
        state[key] = value;
    }
    vec![(layout_id, layout), (style_id, style), (comm_id, state)]
}

/// What changes when a control is set or made otherwise.
fn value_of(control: &Control) -> Map<String, Json> {
    let number = |value: f64, is_whole: bool| {
        if is_whole {
            json!(value as i64)
        } else {
            json!(value)
        }
    };
    object(match (&control.kind, &control.value) {
        (Kind::Slider(span), Value::Number(value)) => json!({
            "min": number(span.min, span.is_whole),
            "max": number(span.max, span.is_whole),
            "step": number(span.step, span.is_whole),
            "value": number(*value, span.is_whole),
            "orientation": "horizontal",
            "readout": true,
            "readout_format": if span.is_whole { "d".to_string() } else { format!(".{}f", decimals(span.step)) },
            "continuous_update": true,
            "behavior": "drag-tap",
        }),
        (Kind::Number { is_whole, .. }, Value::Number(value)) => json!({
            "value": number(*value, *is_whole),
            "step": if *is_whole { json!(1) } else { Json::Null },
            "continuous_update": false,
        }),
        (Kind::Select(options), Value::Choice(idx)) => json!({ "_options_labels": options, "index": idx }),
        (Kind::Checkbox, Value::Bool(value)) => json!({ "value": value, "indent": false }),
        (Kind::Text, Value::Text(value)) => {
            json!({ "value": value, "placeholder": "", "continuous_update": false })
        }
        (Kind::Button, _) => json!({ "button_style": "", "icon": "", "tooltip": null }),
        _ => json!({}),
    })
}

/// As many as a step needs.
fn decimals(step: f64) -> usize {
    (0..6)
        .find(|n| {
            let scaled = step * 10_f64.powi(*n);
            (scaled - scaled.round()).abs() < 1e-6
        })
        .unwrap_or(6) as usize
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slider(value: f64) -> Control {
        Control {
            label: "workers".into(),
            kind: Kind::Slider(Span {
                min: 1.0,
                max: 8.0,
                step: 1.0,
                is_whole: true,
            }),
            value: Value::Number(value),
        }
    }

    fn message(comm_id: &str, data: Json) -> CommMsg {
        CommMsg {
            comm_id: CommId(comm_id.into()),
            data: object(data),
        }
    }

    #[test]
    fn a_control_is_three_models_that_a_front_end_may_ask_for_again() {
        let widgets = Widgets::default();
        let opened = widgets.put(0xab, &slider(4.0));
        let text = serde_json::to_string_pretty(&opened).unwrap();
        insta::assert_snapshot!("widget_of_a_slider", text);
        assert_eq!(widgets.put(0xab, &slider(5.0)).len(), 1, "it is known");
        let ids: Vec<String> = widgets.comms(None).into_iter().map(|(id, _)| id.0).collect();
        assert_eq!(ids, ["skep-ab", "skep-ab-layout", "skep-ab-style"]);
        assert_eq!(widgets.comms(Some("other")).len(), 0);
        let Heard::Say(said) = widgets.hear(&message("skep-ab", json!({ "method": "request_state" }))) else {
            panic!("it is answered")
        };
        let text = serde_json::to_string(&said).unwrap();
        assert!(
            text.contains(r#""value":5"#) && text.contains("IntSliderModel"),
            "{text}"
        );
        let Heard::Say(said) = widgets.hear(&message("x", json!({ "method": "request_states" }))) else {
            panic!("it is answered")
        };
        let text = serde_json::to_string(&said).unwrap();
        assert!(
            text.contains("update_states") && text.contains("SliderStyleModel"),
            "{text}"
        );
    }

    #[test]
    fn what_a_front_end_sends_is_checked() {
        let widgets = Widgets::default();
        widgets.put(1, &slider(4.0));
        let button = Control {
            label: "go".into(),
            kind: Kind::Button,
            value: Value::Clicks(2),
        };
        widgets.put(2, &button);
        let heard = |comm_id: &str, data: Json| match widgets.hear(&message(comm_id, data)) {
            Heard::Change(id, value) => format!("{id}: {value:?}"),
            Heard::Say(said) => format!("{} said", said.len()),
        };
        let set = |value: Json| json!({ "method": "update", "state": { "value": value } });
        assert_eq!(heard("skep-1", set(json!(6))), "1: Number(6.0)");
        let click = json!({ "method": "custom", "content": { "event": "click" } });
        assert_eq!(heard("skep-2", click), "2: Clicks(3)");
        for nonsense in [
            set(json!("six")),
            set(Json::Null),
            json!({ "method": "update" }),
            json!({ "method": "dance" }),
            json!({}),
        ] {
            assert_eq!(heard("skep-1", nonsense.clone()), "0 said", "{nonsense}");
        }
        assert_eq!(heard("skep-99", set(json!(1))), "0 said");
        assert_eq!(heard("skep-1-layout", set(json!(1))), "0 said");
    }

    #[test]
    fn pictures_take_their_places_at_the_end() {
        let widgets = Widgets::default();
        widgets.put(1, &slider(4.0));
        let shown = slider(1.0).bundle().with(skep_session::control::MIME, "1");
        widgets.show("here", &shown);
        let (pictures, closed) = widgets.take_all();
        assert_eq!(pictures, [("here".to_string(), slider(4.0).bundle())]);
        assert_eq!(closed.len(), 3);
        assert!(widgets.comms(None).is_empty());
        assert_eq!((decimals(0.05), decimals(1.0), decimals(1.0 / 3.0)), (2, 0, 6));
    }
}
