//! `cargo xtask fleet`: a fleet of devices in one process, with a compressed clock. They speak the real protocol (reports, heartbeats and
//! receipts as JSON) with the agent's own scheduler and identity ([`agent::lab`]). Only the clock, the network and what a device looks
//! like are simulated.
//!
//! The receiver goes away for an hour; devices sleep, have wrong clocks, lose responses and are copied. It prints arrivals per second, and
//! fails if the fleet comes back as a herd.
#![forbid(unsafe_code)]
#![expect(clippy::print_stdout, reason = "it prints what it found")]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::process::ExitCode;

use clap::Parser;
use url::Url;

use chart::Arrivals;
use device::{Device, Fleet};
use random::Random;
use receiver::{Own, Receiver, Server};

mod chart;
mod device;
mod random;
mod receiver;

/// Simulates a fleet of devices that report, with a compressed clock.
#[derive(Parser)]
#[command(name = "cargo xtask fleet", bin_name = "cargo xtask fleet")]
struct Arguments {
    /// How many devices there are.
    #[arg(long, default_value_t = 100_000)]
    devices: usize,
    /// How long they run, in hours of their clock.
    #[arg(long, default_value_t = 7)]
    hours: u32,
    /// After how many hours the receiver goes away, for an hour.
    #[arg(long, default_value_t = 2)]
    outage: u32,
    /// The report interval, in minutes.
    #[arg(long, default_value_t = 60)]
    interval: u32,
    /// Devices that sleep in an hour, in percent.
    #[arg(long, default_value_t = 5)]
    asleep: u32,
    /// Responses that get lost, in percent.
    #[arg(long, default_value_t = 1)]
    lost: u32,
    /// How wrong a clock is at most, in seconds.
    #[arg(long, default_value_t = 300)]
    skew: u32,
    /// How many devices are copies of another one, on another machine or under the machine ID of the other one.
    #[arg(long, default_value_t = 20)]
    clones: usize,
    /// The same number gives the same fleet.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// A receiver of reports that gets them all, as fast as it takes them. Without it, one in this process.
    #[arg(long)]
    receiver: Option<Url>,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    match runtime.map_err(anyhow::Error::from).and_then(|runtime| runtime.block_on(run(&arguments))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            println!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Whether the fleet spread itself.
async fn run(arguments: &Arguments) -> anyhow::Result<bool> {
    let mut random = Random::new(arguments.seed);
    let fleet = Fleet::new(arguments.interval, arguments.lost, arguments.asleep);
    let mut devices = fleet.devices(arguments.devices, arguments.clones, arguments.skew, &mut random);
    let mut receiver = match &arguments.receiver {
        Some(url) => Receiver::Server(Server::new(url)?),
        None => Receiver::Own(Box::default()),
    };
    let end = u64::from(arguments.hours) * 3600;
    let outage = u64::from(arguments.outage) * 3600..u64::from(arguments.outage + 1) * 3600;
    let mut arrivals = Arrivals::new(end);
    // The second in which each device does something next, by the clock of the receiver.
    let mut due: BinaryHeap<Reverse<(u64, usize)>> =
        devices.iter().enumerate().map(|(place, device)| Reverse((device.due(0), place))).collect();
    let begun = tokio::time::Instant::now();
    while let Some(Reverse((second, _))) = due.peek().copied().filter(|Reverse((second, _))| *second < end) {
        let mut places = Vec::new();
        while let Some(Reverse((_, place))) = due.peek().filter(|Reverse((at, _))| *at == second) {
            places.push(*place);
            due.pop();
        }
        let is_away = outage.contains(&second);
        let mut sending = Vec::new();
        for place in places {
            if fleet.sleeps(&mut devices[place], second, &mut random) {
                due.push(Reverse((devices[place].due(second), place)));
            } else {
                sending.push((place, fleet.message(&mut devices[place], second)?));
            }
        }
        let bodies: Vec<&[u8]> = sending.iter().map(|(_, body)| body.as_slice()).collect();
        arrivals.add(second, bodies.len(), bodies.iter().map(|body| body.len()).sum(), is_away);
        let receipts = if is_away { vec![None; bodies.len()] } else { receiver.take(&bodies, second).await };
        for ((place, _), receipt) in sending.iter().zip(receipts) {
            let device: &mut Device = &mut devices[*place];
            fleet.finish(device, receipt, second, &mut random);
            due.push(Reverse((device.due(second), *place)));
        }
    }
    println!("{}", arrivals.chart(&outage));
    println!(
        "{} devices, {} hours in {:.1} s",
        arguments.devices,
        arguments.hours,
        begun.elapsed().as_secs_f64()
    );
    println!("{}", arrivals.sums(arguments.devices));
    if let Receiver::Own(own) = &receiver {
        println!("{}", own.sums());
    }
    let herds = arrivals.herds(&outage);
    for herd in &herds {
        println!("{herd}");
    }
    let told = told_all(&receiver, &devices);
    println!("{}", if herds.is_empty() { "the fleet spread itself" } else { "the fleet came as a herd" });
    Ok(herds.is_empty() && told)
}

/// Whether the receiver knows every device that it has said that of, each under an identity of its own. Prints what is missing.
fn told_all(receiver: &Receiver, devices: &[Device]) -> bool {
    let Receiver::Own(own) = receiver else { return true };
    let missing = devices.iter().filter(|device| device.was_taken() && !own.knows(device)).count();
    if missing > 0 {
        println!("the receiver took reports of {missing} devices that it does not know");
    }
    let conflicts = own.conflicts();
    let copies = devices.iter().filter(|device| device.is_indistinguishable()).count();
    // Who shares a machine ID with another one cannot know it: the receiver has to see it.
    if conflicts > copies {
        println!(
            "{conflicts} identities are used by more than one device, but only {copies} were copied with their machine ID"
        );
    }
    missing == 0 && conflicts <= copies
}

impl Default for Own {
    fn default() -> Self {
        Self::new()
    }
}
